"""The transfer report: the source, and what happened to every tensor."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nnunet_transfer.adaptation.decisions import Decision, Scope
from nnunet_transfer.files import write_json
from nnunet_transfer.sources import SourceCard

#: number of tensor names in a line of the table
NAMES_PER_LINE = 2
COLUMNS = ("loaded", "adapted", "initialised", "unused")
PART_ORDER = ("stem", "encoder", "decoder", "head", "other")


@dataclass(frozen=True)
class TransferReport:
    """The result of a transfer.

    Attributes
    ----------
    source
        Card of the source.
    scope
        `encoder` or `encoder+decoder`.
    minimum_encoder
        Required share of the encoder.
    decisions
        One decision per tensor of the target, followed by the unused tensors of the source.
    coverage
        Part -> share of the target's parameters that were loaded from the source; `encoder` includes the stem.
    channels_at_zero
        Input channels without a counterpart in the source; their weights start at 0.
    channels_guessed
        Input channels that start with the mean over the source's channels.
    notes
        Differences that don't show in the tensors, such as strides, normalisation or spacing.
    warnings
        What readers of the results must know.
    fitted_heads
        Result of fitting the output layers to training patches, if the recipe does so.
    """

    source: SourceCard
    scope: Scope
    minimum_encoder: float
    decisions: tuple[Decision, ...]
    coverage: dict[str, float]
    channels_at_zero: tuple[str, ...] = ()
    channels_guessed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fitted_heads: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        card = self.source
        return {
            "source": card.name,
            "sha256": card.sha256,
            "task": card.task,
            "domain": card.domain,
            "licence": card.licence,
            "citation": card.citation,
            "trained_on": list(card.trained_on),
            "scope": self.scope,
            "minimum_encoder": self.minimum_encoder,
            "coverage": self.coverage,
            "channels_at_zero": list(self.channels_at_zero),
            "channels_guessed": list(self.channels_guessed),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "fitted_heads": self.fitted_heads,
            "tensors": [
                {
                    "key": d.key,
                    "source_key": d.source_key,
                    "part": d.part,
                    "status": d.status,
                    "rules": [str(step) for step in d.steps],
                    "reason": d.reason,
                    "source_shape": d.source_shape and list(d.source_shape),
                    "target_shape": d.target_shape and list(d.target_shape),
                    "parameters": d.parameters,
                    "transferred": d.transferred,
                }
                for d in self.decisions
            ],
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON."""
        write_json(path, self.to_dict())

    def table(self) -> str:
        """Return a readable summary: counts by part, then all tensors that were not simply loaded."""
        card = self.source
        lines = [
            f"Transfer report: source {card.name} (task {card.task}, domain {card.domain}, sha256 {card.sha256[:12]})",
            f"  licence {card.licence or 'unknown'}; trained on {', '.join(card.trained_on) or 'unknown'}",
            "  " + _row("part", COLUMNS, "parameters loaded"),
        ]
        for part in PART_ORDER:
            of_part = [d for d in self.decisions if d.part == part]
            if of_part:
                counts = [str(sum(d.status == c for d in of_part)) for c in COLUMNS]
                lines.append("  " + _row(part, counts, _share(of_part)))
        lines += [f"  {text}" for text in _details(self.decisions)]
        lines += [f"  note: {text}" for text in self.notes]
        lines += [f"  WARNING: {text}" for text in self.warnings]
        return "\n".join(lines)


def _row(part: str, counts: Sequence[str], share: str) -> str:
    return f"{part:<8}" + "".join(f"{c:>12}" for c in counts) + f"  {share}"


def _share(decisions: Iterable[Decision]) -> str:
    of_target = [d for d in decisions if d.target_shape is not None]
    total = sum(d.parameters for d in of_target)
    moved = sum(d.transferred for d in of_target)
    return f"{moved:,} of {total:,} ({moved / total:.1%})" if total else ""


def _details(decisions: Iterable[Decision]) -> list[str]:
    def group(d: Decision) -> tuple[int, int, str]:
        why = ", ".join(map(str, d.steps)) or d.reason
        return COLUMNS.index(d.status), PART_ORDER.index(d.part), why

    lines = []
    for (status, part, why), members in groupby(
        sorted((d for d in decisions if d.status != "loaded"), key=group), key=group
    ):
        keys = [d.key for d in members]
        more = f" and {len(keys) - NAMES_PER_LINE} more" if len(keys) > NAMES_PER_LINE else ""
        lines.append(f"{COLUMNS[status]} {PART_ORDER[part]}: {why}: {', '.join(keys[:NAMES_PER_LINE])}{more}")
    return lines
