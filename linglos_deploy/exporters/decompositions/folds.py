"""What a layer normalization leaves to the linear maps that read it. All in float64, all exact.

Affine part:
    before: W (gamma * z + beta) + b
    after:  (W diag(gamma)) z + (b + W beta)

Centring. The normalized z sums to zero over the channels, at every position, so W may lose its row means:
    before: W z
    after:  (W P) z,  P = I - 1 1^T / C

Bias. The centred map does not see a constant in all channels. Let the normalization add 1/C to each of them, at no
cost, as its own bias; then the channels sum to one, and a row constant acts as a bias:
    before: W z + b
    after:  (W P + b 1^T) (z + 1/C)
This pays where W is made from the input (the reassociated form): its product then needs no addition afterwards.
In 16 bits the channels do not sum to one closely enough, so there the biases stay where they are.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from linglos_deploy.exporters.decompositions.gate import Gate


def fold_affine(weight: Tensor, bias: Tensor, *, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias of ``W (gamma * z + beta) + b`` as a map of z."""
    return weight * gamma, bias + weight @ beta


def fold_affine_into_gate(gate: Gate, *, gamma: Tensor, beta: Tensor) -> Gate:
    """Return the attention as a function of z, where X = gamma * z + beta. Wg reads the keys and stays."""
    Wk, bk = fold_affine(gate.Wk, gate.bk, gamma=gamma, beta=beta)
    Wv, bv = fold_affine(gate.Wv, gate.bv, gamma=gamma, beta=beta)
    return replace(gate, Wk=Wk, bk=bk, Wv=Wv, bv=bv)


def centre(weight: Tensor) -> Tensor:
    """Return ``W P``: the same map on inputs that sum to zero, and blind to a constant."""
    return weight - weight.mean(dim=1, keepdim=True)


def absorb_bias(weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``W P + b 1^T``: ``W z + b`` as a map of ``z + 1/C``."""
    return centre(weight) + bias[:, None]
