"""Predictions that an earlier training in the same folder left there, beside the records of a later one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_transfer.comparison.results import Run
from nnunet_transfer.evaluation.folders import list_masks
from nnunet_transfer.run_record import FILE, beginning
from nnunet_transfer.words import joined

#: seconds by which the clocks of a training and of the disk may differ
_CLOCKS = 60.0


def earlier_network_notices(runs: Sequence[Run], folds: Mapping[str, int]) -> list[str]:
    """Return a sentence that names the folds with predictions from before the training that their records describe.

    Source, cost and versions in the report are then those of another network than the scores.

    Parameters
    ----------
    folds : case -> fold, the cases to compare
    """
    found: dict[str, list[int]] = {}
    for run in runs:
        for fold in sorted(set(folds.values()) & set(run.folds)):
            cases = {case for case, own in folds.items() if own == fold}
            if _has_older(run.folds[fold], cases):
                found.setdefault(run.trainer, []).append(fold)
    if not found:
        return []
    listed = "; ".join(f"{trainer} (fold {joined(numbers)})" for trainer, numbers in found.items())
    return [
        f"Doubtful: predictions are older than the training that {FILE} beside them describes, so an earlier network "
        f"made them: {listed}. Finish that training with --c, or validate it again with --val."
    ]


def _has_older(validation: Path, cases: set[str]) -> bool:
    started = beginning(validation.parent)
    if started is None:
        return False
    predictions = [path for case, path in list_masks(validation).items() if case in cases]
    return any(path.stat().st_mtime < started - _CLOCKS for path in predictions)
