"""Score all predictions of all arms, and cache the scores so that the next comparison is fast."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from nnunet_transfer.comparison.results import Run
from nnunet_transfer.comparison.summaries import Prediction, summary_notices
from nnunet_transfer.comparison.targets import Target
from nnunet_transfer.evaluation.folders import Task, list_masks, raise_problems, run_tasks
from nnunet_transfer.evaluation.scores import LESION_FIELDS, SCORES_VERSION, CaseScores, Row, ScoringSettings
from nnunet_transfer.files import sha256_of, write_text
from nnunet_transfer.subjects import Origin
from nnunet_transfer.words import counted

logger = logging.getLogger(__name__)

#: first columns of the tables
HEAD_FIELDS = ("target", "arm", "recipe", "seed", "fold", "case", "subject", "site")


@dataclass(frozen=True)
class Scored:
    """The tables of a target: one row per run, case and label; one per run, case, protocol and reference lesion."""

    cases: pd.DataFrame
    lesions: pd.DataFrame


def score_runs(
    target: Target,
    runs: Sequence[Run],
    folds: dict[str, int],
    origin: Origin,
    settings: ScoringSettings,
    *,
    cache_folder: Path,
    processes: int,
    problems: dict[str, str],
    notices: list[str],
    allow_missing: bool,
) -> Scored:
    """Score every prediction of every run.

    Parameters
    ----------
    folds : case -> fold, the cases to compare
    cache_folder : folder of cached scores, keyed by the content of both masks and the settings
    problems, notices : new entries are appended

    Raises
    ------
    ComparisonError
        If a case can't be scored and `allow_missing` is false, or if no case is left.
    """
    jobs = [(run, case, prediction) for run in runs for case, prediction in _predictions(run, folds).items()]
    tasks = [Task(case, target.references[case], path, target.label_set, settings) for _, case, path in jobs]
    results = _cached_scores(tasks, cache_folder, processes)
    failed: dict[str, str] = {}
    for (run, case, _), result in zip(jobs, results, strict=True):
        if isinstance(result, str):
            failed.setdefault(case, f"{run.trainer}: {result}")
    if failed and not allow_missing:
        raise_problems(failed, "fix these cases, or add --allow-missing to leave them out for all arms")
    if len(failed) == len(folds):
        raise_problems(failed, f"no case of {target.dataset} is left; fix some of these cases")
    problems |= failed
    cases: list[Row] = []
    lesions: list[Row] = []
    scored: list[Prediction] = []
    for (run, case, _), result in zip(jobs, results, strict=True):
        if isinstance(result, str) or case in failed:
            continue
        values = (target.title, run.arm.name, run.arm.trainer.recipe, run.seed, folds[case], case)
        head = dict(zip(HEAD_FIELDS, (*values, origin.subject[case], origin.site[case]), strict=True))
        cases += [head | row for row in result.cases]
        lesions += [head | row for row in result.lesions]
        scored.append(Prediction(run, folds[case], case, result.cases))
    notices += summary_notices(scored, target.label_set)
    # keep the header of an empty table, which readers of the file need
    columns = None if lesions else [*HEAD_FIELDS, *LESION_FIELDS]
    return Scored(pd.DataFrame(cases), pd.DataFrame(lesions, columns=columns))


def _predictions(run: Run, folds: dict[str, int]) -> dict[str, Path]:
    found = {k: list_masks(run.folds[k]) for k in sorted(set(folds.values()))}
    return {case: found[fold][case] for case, fold in folds.items()}


def _cached_scores(tasks: Sequence[Task], folder: Path, processes: int) -> list[CaseScores | str]:
    digest = cache(sha256_of)
    paths = [folder / f"{_key(task, digest)}.json" for task in tasks]
    results: list[CaseScores | str | None] = [_read_cached(path) for path in paths]
    open_ = [i for i, result in enumerate(results) if result is None]
    if open_:
        known = f" ({len(tasks) - len(open_)} known already)" if len(open_) < len(tasks) else ""
        logger.info("scoring %s%s", counted(len(open_), "prediction"), known)
    scores = run_tasks([tasks[i] for i in open_], processes)
    bar = tqdm(scores, total=len(open_), desc="scoring", unit="mask", disable=None)
    for i, result in zip(open_, bar, strict=True):
        results[i] = result
        if not isinstance(result, str):
            write_text(paths[i], json.dumps(dataclasses.asdict(result)))
    return [r for r in results if r is not None]


def _key(task: Task, digest: Any) -> str:
    content = [
        SCORES_VERSION,
        digest(task.reference),
        digest(task.prediction),
        repr(task.label_set),
        repr(task.settings),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read_cached(path: Path) -> CaseScores | None:
    try:
        return CaseScores(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
