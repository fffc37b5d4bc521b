"""The formulas as trained: what every other form is measured against.

    K = Wk X + bk,  A = softmax_n(Wg K + bg),  V = Wv X + bv,  G = sum_n A V,  Y = Wo (K * G) + bo

3 C^2 N multiply-accumulates for the projections, and 2 h C N + C N for gate and sum.
"""

from __future__ import annotations

from torch import Tensor

from linglos_deploy.exporters.decompositions.gate import Gate


def reference(gate: Gate, x: Tensor) -> Tensor:
    """Attend.

    Args:
        gate: The tensors.
        x: X, batch x C x N, in the tensors' element type.

    Returns:
        Y, batch x C x N.
    """
    key = gate.Wk @ x + gate.bk[:, None]
    weights = (gate.Wg @ key).softmax(dim=-1)
    value = (gate.Wv @ x + gate.bv[:, None]).reshape(x.shape[0], gate.heads, -1, x.shape[-1])
    context = (value @ weights.unsqueeze(-1)).reshape(x.shape[0], -1, 1)
    attended: Tensor = gate.Wo @ (key * context) + gate.bo[:, None]
    return attended
