"""The report's table of cases, sorted by difference, with the details behind each score."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult
from nnunet_transfer.comparison.results import Arm, Run
from nnunet_transfer.comparison.targets import prediction_file

#: cases with pictures in the report, unless all are requested
PICTURED = 30
#: reference lesions listed per case, largest first
MOST_LESIONS = 12
NAN = float("nan")


@dataclass(frozen=True)
class ArmScores:
    """One arm's scores of a case; volume and lesions are those of all labels.

    Attributes
    ----------
    title, code : title and code of the arm
    difference : Dice minus the Dice of the baseline; NaN for the baseline itself
    lesions : title of a protocol -> (reference lesions found, reference lesions, predicted lesions)
    files : label of a run -> link to its prediction, relative to the report
    """

    arm: str
    title: str
    code: str
    dice: float
    difference: float
    volume_ml: float
    lesions: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesion:
    """A reference lesion, and by how many of each arm's runs it was found: code of the arm -> (found, runs)."""

    protocol: str
    label: str
    volume_ml: float
    found: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class CaseRow:
    """A row of the table and its details.

    Attributes
    ----------
    key : unique id in the page
    worst : lowest difference from the baseline over all arms; if there is only one arm, its Dice
    volume_ml : volume of the reference, all labels; NaN if labels overlap in part
    more_lesions : number of lesions that the table omits
    """

    key: str
    case: str
    subject: str
    site: str
    fold: int
    volume_ml: float
    worst: float
    arms: tuple[ArmScores, ...]
    lesions: tuple[Lesion, ...]
    more_lesions: int
    reference: str
    image: str


def case_rows(result: TargetResult, codes: dict[str, str], folder: Path) -> list[CaseRow]:
    """Return one row per case, worst difference from the baseline first.

    Parameters
    ----------
    codes : name of an arm -> short code
    folder : folder of the report, for links
    """
    runs: dict[str, list[Run]] = {}
    for run in result.runs:
        runs.setdefault(run.arm.name, []).append(run)
    scores: dict[tuple[str, str], dict[str, Any]] = {
        (row["arm"], row["case"]): {str(key): value for key, value in row.items()}
        for row in result.per_case.to_dict("records")
    }
    lesions = _lesions(result, codes)
    # scores count in the fold of the subject's first case, but files are in the fold that validated the case
    validated = {case: fold for fold, cases in result.target.folds.items() for case in cases}

    def arm_scores(case: str) -> list[ArmScores]:
        return [
            _arm_scores(
                result,
                scores[arm.name, case],
                scores[result.baselines[arm.name], case],
                arm,
                codes,
                _predictions(result, runs[arm.name], case, validated[case], folder),
            )
            for arm in result.arms
        ]

    rows = [
        _case_row(
            result,
            number,
            arm_scores(case),
            scores[result.baseline, case] | {"fold": validated[case]},
            lesions.get(case, []),
            folder,
        )
        for number, case in enumerate(dict.fromkeys(result.per_case["case"]))
    ]
    return sorted(rows, key=_sorting)


def _sorting(row: CaseRow) -> tuple[float | str, ...]:
    """Return the sort key of a row: the worst difference, then the lowest Dice; unknown values come last."""
    lowest = min((arm.dice for arm in row.arms if np.isfinite(arm.dice)), default=np.inf)
    return (float(np.inf) if np.isnan(row.worst) else row.worst, lowest, row.case)


def _case_row(
    result: TargetResult,
    number: int,
    arms: Sequence[ArmScores],
    head: Mapping[str, Any],
    lesions: Sequence[Lesion],
    folder: Path,
) -> CaseRow:
    case = str(head["case"])
    differences = [a.difference for a in arms if np.isfinite(a.difference)]
    return CaseRow(
        key=f"d{result.target.dataset.split('_')[0].removeprefix('Dataset')}c{number}",
        case=case,
        subject=str(head["subject"]),
        site="" if pd.isna(head.get("site")) else str(head["site"]),
        fold=int(head["fold"]),
        volume_ml=float(head.get("volume_ref_ml", NAN)),
        worst=min(differences) if differences else min((a.dice for a in arms if np.isfinite(a.dice)), default=NAN),
        arms=tuple(arms),
        lesions=tuple(lesions[:MOST_LESIONS]),
        more_lesions=max(0, len(lesions) - MOST_LESIONS),
        reference=link(result.target.references[case], folder),
        image=link(result.target.images[case], folder) if case in result.target.images else "",
    )


def _arm_scores(
    result: TargetResult,
    found: Mapping[str, Any],
    baseline: Mapping[str, Any],
    arm: Arm,
    codes: Mapping[str, str],
    files: dict[str, str],
) -> ArmScores:
    counts = {
        p.title: (found[f"{p.name}_n_ref"] - found[f"{p.name}_fn"], found[f"{p.name}_n_ref"], found[f"{p.name}_n_pred"])
        for p in result.protocols
        if f"{p.name}_n_ref" in found
    }
    difference = NAN if arm.name == result.baselines[arm.name] else found[PRIMARY] - baseline[PRIMARY]
    volume = found.get("volume_pred_ml", NAN)
    return ArmScores(arm.name, arm.title, codes[arm.name], found[PRIMARY], difference, volume, counts, files)


def _predictions(result: TargetResult, runs: Sequence[Run], case: str, fold: int, folder: Path) -> dict[str, str]:
    """Return label of a run -> link to its prediction of a case."""
    return {_run_label(run, runs): link(prediction_file(result.target, run, case, fold), folder) for run in runs}


def _run_label(run: Run, runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return "prediction"
    return "no seed" if run.seed is None else f"seed {run.seed}"


def _lesions(result: TargetResult, codes: dict[str, str]) -> dict[str, list[Lesion]]:
    """Return the reference lesions of every case, largest first."""
    names = {arm.name for arm in result.arms}
    titles = {p.name: p.title for p in result.protocols}
    table = result.lesions[result.lesions["arm"].isin(names)] if len(result.lesions) else result.lesions
    found: dict[str, dict[tuple[str, str, int], Lesion]] = {}
    for row in table.to_dict("records"):
        key = (row["protocol"], row["label"], int(row["lesion"]))
        own = found.setdefault(row["case"], {})
        lesion = own.setdefault(key, Lesion(titles.get(key[0], key[0]), key[1], float(row["volume_mm3"]) / 1000, {}))
        hits, runs = lesion.found.get(codes[row["arm"]], (0, 0))
        lesion.found[codes[row["arm"]]] = (hits + bool(row["detected"]), runs + 1)
    return {
        case: sorted(own.values(), key=lambda lesion: (lesion.protocol, -lesion.volume_ml))
        for case, own in found.items()
    }


def link(path: Path, folder: Path) -> str:
    """Return a link to a file, relative to the report's folder."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def telling_cases(rows: Sequence[CaseRow], most: int = PICTURED) -> list[CaseRow]:
    """Return the cases to draw: a third each with the largest losses and gains, and a third spread over all mean scores.

    The last third includes the best, the median and the worst case. If cases coincide, further losses and gains are added.
    """
    if len(rows) <= most:
        return list(rows)
    third = most // 3
    # a case may have no score, because it has no lesion
    scored = [row for row in rows if any(np.isfinite(a.dice) for a in row.arms)]
    by_score = sorted(scored, key=lambda row: np.nanmean([a.dice for a in row.arms]))
    spread = [by_score[i] for i in np.linspace(0, len(scored) - 1, third).round().astype(int)] if scored else []
    gains = sorted(
        rows, key=lambda row: -max((a.difference for a in row.arms if np.isfinite(a.difference)), default=-1)
    )
    chosen = dict.fromkeys(row.key for row in [*rows[:third], *gains[:third], *spread])
    for loss, gain in zip(rows, gains, strict=True):
        for row in (loss, gain):
            if len(chosen) < most:
                chosen.setdefault(row.key)
    return [row for row in rows if row.key in chosen]
