"""nnU-Net's own scores in summary.json, as a cross-check of those computed from the masks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer.comparison.results import Run
from nnunet_transfer.errors import DataError
from nnunet_transfer.evaluation.labels import LabelSet
from nnunet_transfer.evaluation.masks import strip_ending
from nnunet_transfer.evaluation.scores import Row
from nnunet_transfer.files import read_json
from nnunet_transfer.words import counted, joined, shortened

FILE = "summary.json"
#: tolerance between recomputed Dice and IoU and nnU-Net's
TOLERANCE = 1e-6
#: column of a score -> its name in nnU-Net's summary
_SCORES = {"dice": "Dice", "iou": "IoU"}
#: number of predictions or trainings listed in a sentence; the rest are counted
_NAMED = 5


@dataclass(frozen=True)
class Prediction:
    """A scored prediction: one row per label, as returned by `score_case`."""

    run: Run
    fold: int
    case: str
    rows: list[Row]


def summary_notices(predictions: Iterable[Prediction], label_set: LabelSet) -> list[str]:
    """Return a sentence on the predictions whose scores differ from nnU-Net's, and one on the folds that can't be compared."""
    summaries: dict[Path, dict[str, Any]] = {}
    keys = {label.name: label.summary_keys for label in label_set.labels}
    stale: list[str] = []
    unknown: dict[str, dict[int, None]] = {}
    for found in predictions:
        folder = found.run.folds[found.fold]
        if folder not in summaries:
            summaries[folder] = _read_summary(folder)
        metrics = summaries[folder].get(found.case)
        agreements = [_agree(row, _of_label(metrics, keys[row["label"]])) for row in found.rows]
        if False in agreements:
            stale.append(f"{found.run.trainer} {found.case}")
        elif None in agreements:
            unknown.setdefault(found.run.trainer, {})[found.fold] = None
    notices = []
    if stale:
        notices.append(
            f"{FILE} disagrees with the masks in {counted(len(stale), 'prediction')} and is stale there (a mask or a "
            f"reference was changed after validation): {shortened(stale, _NAMED)}. The report uses the masks."
        )
    if unknown:
        listed = [f"{trainer} (fold {joined(sorted(folds))})" for trainer, folds in unknown.items()]
        notices.append(
            f"Not all scores were checked against nnU-Net's own, because {FILE} is missing, can't be read or lacks some of "
            f"them: {shortened(listed, _NAMED)}."
        )
    return notices


def _read_summary(validation: Path) -> dict[str, Any]:
    """Return case -> nnU-Net's metrics by label key; empty without a readable summary."""
    try:
        entries = read_json(validation / FILE)["metric_per_case"]
        return {strip_ending(Path(entry["prediction_file"]).name): entry["metrics"] for entry in entries}
    except (DataError, KeyError, TypeError):
        return {}


def _of_label(metrics: Any, keys: Iterable[str]) -> Any:
    """Return nnU-Net's metrics of one label; None if it has none."""
    known = metrics if isinstance(metrics, dict) else {}
    return next((known[key] for key in keys if key in known), None)


def _agree(row: Row, stored: Any) -> bool | None:
    """Whether stored scores are those of a row; None if some are missing and the others agree."""
    if stored is None:
        return None
    if not isinstance(stored, dict):
        return False
    pairs = [(row[ours], stored.get(theirs)) for ours, theirs in _SCORES.items()]
    if not all(_same(ours, theirs) for ours, theirs in pairs if theirs is not None):
        return False
    return None if None in [theirs for _, theirs in pairs] else True


def _same(ours: float, theirs: Any) -> bool:
    if not isinstance(theirs, int | float):
        return False
    return (math.isnan(ours) and math.isnan(theirs)) or abs(ours - theirs) <= TOLERANCE
