"""Arms and seeds that are the same training under two names: identical scores or identical weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_transfer.comparison.results import Arm, Run
from nnunet_transfer.words import joined

#: scores that two trainings hardly ever share in every case; surface metrics are used if they were computed
SCORES = ("voxels_tp", "voxels_fp", "voxels_fn", "hd95_mm", "nsd")
#: number of partly correct cases in a fold from which equal scores are unlikely to be chance
LEAST_TELLING = 2


@dataclass(frozen=True)
class _Fingerprint:
    """All scores of a run in a fold, whether it predicted anything there, and the number of partly correct cases."""

    scores: Hashable
    anything: bool
    partly_right: int


def same_weights(runs: Sequence[Run]) -> list[str]:
    """Return a sentence on each set of arms that name different sources but loaded the same weights."""
    by_sha256: dict[str, dict[Arm, None]] = {}
    for run in runs:
        if run.arm.sha256:
            by_sha256.setdefault(run.arm.sha256, {})[run.arm] = None
    return [
        f"Doubtful: {joined([arm.title for arm in arms])} loaded the same weights (sha256 {sha256[:12]}): they are the "
        "same source under several names."
        for sha256, arms in by_sha256.items()
        if len({(arm.trainer.base, arm.source) for arm in arms}) > 1
    ]


def same_scores(cases: pd.DataFrame, runs: Sequence[Run]) -> list[str]:
    """Return a sentence on each set of arms or seeds with identical scores in all cases, or in all cases of a fold.

    Runs with only empty predictions are left out: they failed and are not copies.

    Parameters
    ----------
    cases : one row per run, case and label
    """
    prints = _fingerprints(cases, _run_names(runs))
    everywhere: dict[Hashable, list[str]] = {}
    for name, folds in prints.items():
        if any(found.anything for found in folds.values()):
            everywhere.setdefault(tuple((fold, found.scores) for fold, found in folds.items()), []).append(name)
    alike = [group for group in everywhere.values() if len(group) > 1]
    partly: dict[tuple[str, ...], list[int]] = {}
    for fold in sorted({fold for folds in prints.values() for fold in folds}):
        inside: dict[Hashable, list[str]] = {}
        for name, folds in prints.items():
            if fold in folds and folds[fold].partly_right >= LEAST_TELLING:
                inside.setdefault(folds[fold].scores, []).append(name)
        for group in inside.values():
            if len(group) > 1 and not any(set(known) >= set(group) for known in alike):
                partly.setdefault(tuple(group), []).append(fold)
    return list(_sentences(alike, partly))


def _sentences(alike: Sequence[Sequence[str]], partly: Mapping[tuple[str, ...], Sequence[int]]) -> Iterator[str]:
    for names in alike:
        yield f"Doubtful: {joined(names)} have the same scores in every case; they may be copies of one folder."
    for some, folds in partly.items():
        where = f"fold{'s' if len(folds) > 1 else ''} {joined(folds)}"
        yield f"Doubtful: in {where}, {joined(some)} have the same scores in every case; they may be copies of one folder."


def _run_names(runs: Sequence[Run]) -> dict[tuple[str, int | None], str]:
    """Return the name of each run in sentences, by arm and seed."""
    several = Counter(run.arm.name for run in runs)
    names = {}
    for run in runs:
        seed = "without a seed" if run.seed is None else f"seed {run.seed}"
        names[run.arm.name, run.seed] = run.arm.title if several[run.arm.name] == 1 else f"{run.arm.title} {seed}"
    return names


def _fingerprints(
    cases: pd.DataFrame, names: Mapping[tuple[str, int | None], str]
) -> dict[str, dict[int, _Fingerprint]]:
    """Return what each run scored, by its name and fold."""
    columns = [column for column in SCORES if column in cases]
    found: dict[str, dict[int, _Fingerprint]] = {}
    ordered = cases.sort_values(["fold", "case", "label"])
    for _, rows in ordered.groupby(["arm", "seed", "fold"], dropna=False, sort=False):
        tp, fp, fn = (rows[f"voxels_{count}"] for count in ("tp", "fp", "fn"))
        scores = (tuple(rows["case"]), tuple(rows["label"]), rows[columns].to_numpy(float).tobytes())
        partly_right = rows.loc[(tp > 0) & (fp + fn > 0), "case"].nunique()
        head = rows.iloc[0]
        name = names[head["arm"], None if pd.isna(head["seed"]) else int(head["seed"])]
        found.setdefault(name, {})[int(head["fold"])] = _Fingerprint(scores, bool((tp + fp).any()), int(partly_right))
    return found
