"""What becomes of the best class: how often it stays, class by class, and the samples where it does not."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from linglos_deploy.reports.parity import ClassAgreement, Flip

TIE = 1e-6
"""Distance to the best class, relative to the largest magnitude, from which a class counts as the best one too."""

MOST_FLIPS = 20
MOST_DIVERGENCE = 1e9

Floats = npt.NDArray[np.float64]
Picture = Callable[[int], str]
"""Draws the sample of a row of the batch as a data URI; empty if it cannot be drawn."""


@dataclass
class ClassSums:
    """Running counts of one output of N x classes numbers."""

    _ranked: int = 0
    _agreed: int = 0
    _agreed5: int = 0
    _classes: int = 0
    _divergence: float = 0.0
    _answers: Counter[tuple[int, int]] = field(default_factory=Counter)
    _flips: list[tuple[float, int, Flip]] = field(default_factory=list)

    def update(self, wanted: Floats, found: Floats, names: Sequence[str], picture: Picture | None = None) -> None:
        """Take in one batch, both N x classes of one shape; rows with a NaN agree with nothing."""
        first = self._ranked
        self._ranked += len(wanted)
        self._classes = wanted.shape[1]
        rows = np.flatnonzero(~(np.isnan(wanted).any(axis=1) | np.isnan(found).any(axis=1)))
        wanted, found = wanted[rows], found[rows]
        if not len(wanted):
            return
        best, choice = wanted.argmax(axis=1), found.argmax(axis=1)
        chosen = np.take_along_axis(wanted, choice[:, None], axis=1)[:, 0]
        tie = TIE * np.abs(wanted).max(axis=1, initial=0.0)
        with np.errstate(invalid="ignore"):  # inf - inf
            margins = np.nan_to_num(wanted.max(axis=1) - chosen)
            agreed = (chosen == wanted.max(axis=1)) | (margins <= tie)
            other = found.max(axis=1) - np.take_along_axis(found, best[:, None], axis=1)[:, 0]
        answers = np.where(agreed, best, choice)
        self._answers.update(zip(best.tolist(), answers.tolist(), strict=True))
        self._agreed += int(agreed.sum())
        five = np.argpartition(-found, min(5, found.shape[1] - 1), axis=1)[:, :5]
        self._agreed5 += int((five == best[:, None]).any(axis=1).sum())
        self._divergence += float(divergences(wanted, found).sum())
        for index in np.flatnonzero(~agreed):
            row = int(rows[index])
            flip = Flip(
                names[row],
                int(best[index]),
                int(choice[index]),
                float(margins[index]),
                candidate_margin=float(np.nan_to_num(other[index])),
            )
            self._remember(flip, first + row, row, picture)

    def top1_agreement(self) -> float | None:
        """Return the share of samples with the same best class, ``None`` without classes."""
        return self._agreed / self._ranked if self._ranked else None

    def top5_agreement(self) -> float | None:
        """Return the share whose best class is among the candidate's best five, ``None`` below six classes."""
        return self._agreed5 / self._ranked if self._ranked and self._classes > 5 else None

    def divergence(self) -> float | None:
        """Return the mean divergence of the class distributions in nats, ``None`` without classes."""
        return self._divergence / self._ranked if self._ranked else None

    def flips(self) -> tuple[Flip, ...]:
        """Return the samples whose best class is another one, those with the largest margins, largest first."""
        return tuple(flip for _, _, flip in sorted(self._flips, key=lambda entry: (-entry[0], -entry[1])))

    def by_class(self) -> tuple[ClassAgreement, ...]:
        """Return what became of the samples of each class of the reference that there were, in class order."""
        found = []
        for best in sorted({best for best, _ in self._answers}):
            answers = {choice: count for (of, choice), count in self._answers.items() if of == best}
            others = {choice: count for choice, count in answers.items() if choice != best}
            found.append(
                ClassAgreement(
                    best,
                    sum(answers.values()),
                    answers.get(best, 0),
                    max(others, key=lambda choice: (others[choice], -choice)) if others else None,
                )
            )
        return tuple(found)

    def _remember(self, flip: Flip, position: int, row: int, picture: Picture | None) -> None:
        """Keep one of the clearest; only what is kept is drawn."""
        if len(self._flips) == MOST_FLIPS and (flip.margin, -position) < self._flips[0][:2]:
            return
        if picture is not None:
            flip = replace(flip, picture=picture(row))
        entry = (flip.margin, -position, flip)
        if len(self._flips) < MOST_FLIPS:
            heapq.heappush(self._flips, entry)
        else:
            heapq.heapreplace(self._flips, entry)


def divergences(wanted: Floats, found: Floats) -> Floats:
    """Return the Kullback-Leibler divergence of both rows' softmax, in nats; infinite logits count as the largest."""
    first, second = (_log_softmax(np.nan_to_num(rows, posinf=1e30, neginf=-1e30)) for rows in (wanted, found))
    with np.errstate(invalid="ignore", over="ignore"):
        terms = np.exp(first) * (first - second)
    sums: Floats = np.nan_to_num(terms, posinf=MOST_DIVERGENCE).sum(axis=1)
    return np.clip(sums, 0.0, MOST_DIVERGENCE)


def _log_softmax(rows: Floats) -> Floats:
    shifted = rows - rows.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
