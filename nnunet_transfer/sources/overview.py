"""Overview of all sources: whether each has learnt its task, its training data, and possible leakage. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_transfer.sources.card import SourceCard
from nnunet_transfer.sources.leakage import leakage_warnings, registered_targets
from nnunet_transfer.sources.learning import learning_on
from nnunet_transfer.sources.registry import list_sources

COLUMNS = ("name", "task", "domain", "parts", "licence", "learnt", "trained on", "may have seen")


@dataclass(frozen=True)
class Entry:
    """A source in the registry, compared with the data sets in nnU-Net's folders.

    Attributes
    ----------
    learnt : its validation score and the score without learning; empty if the card has none
    leakage : data set -> why the source may have seen some of its subjects
    """

    card: SourceCard
    learnt: str
    leakage: Mapping[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return the card and the other fields as plain JSON types."""
        return {**asdict(self.card), "learnt": self.learnt, "leakage": {k: list(v) for k, v in self.leakage.items()}}

    def row(self) -> tuple[str, ...]:
        """Return one row of the table with `COLUMNS`."""
        card = self.card
        return (
            card.name,
            card.task,
            card.domain,
            card.parts,
            card.licence or "unknown",
            self.learnt or "-",
            ", ".join(card.trained_on) or "unknown",
            ", ".join(self.leakage) or "-",
        )


def overview(cards: Sequence[SourceCard] | None = None) -> list[Entry]:
    """Return all sources in the registry with their scores and overlaps with nnU-Net's data sets, sorted by name."""
    targets = registered_targets()
    entries = []
    for card in list_sources() if cards is None else cards:
        learning = learning_on(card)
        leakage = {target: found for target in targets if (found := leakage_warnings(card, target))}
        entries.append(Entry(card, learning.brief() if learning else "", leakage))
    return entries
