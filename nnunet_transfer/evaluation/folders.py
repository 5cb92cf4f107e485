"""Score a folder of predictions against a folder of references."""

from __future__ import annotations

import logging
import multiprocessing
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunet_transfer.errors import ComparisonError, DataError, SettingsError, TransferError
from nnunet_transfer.evaluation.empties import (
    DEFAULT_EMPTY,
    EMPTY_RULES,
    apply_empty_rule,
    check_empty_rule,
    empty_share,
)
from nnunet_transfer.evaluation.labels import LabelSet, label_set_of, read_label_set
from nnunet_transfer.evaluation.masks import LARGEST_LABEL, is_image, read_mask, strip_ending
from nnunet_transfer.evaluation.overlap import confusion, crop_to_foreground
from nnunet_transfer.evaluation.scores import LESION_FIELDS, CaseScores, Row, ScoringSettings, score_case
from nnunet_transfer.processes import end_with_parent
from nnunet_transfer.words import counted, shortened

logger = logging.getLogger(__name__)

#: starting a process takes about as long as scoring this many cases
CASES_PER_PROCESS = 16
#: number of problems listed in an error message; the rest are counted
NAMED = 10


@dataclass(frozen=True)
class Task:
    """One prediction to score."""

    case: str
    reference: Path
    prediction: Path
    label_set: LabelSet
    settings: ScoringSettings


@dataclass(frozen=True)
class Evaluation:
    """Scores of a folder.

    Attributes
    ----------
    cases, lesions
        One row per case and label, and one row per reference lesion; the columns are those of `score_case`.
    problems
        Case -> why it was left out; empty unless `allow_missing` is set.
    notices
        Sentences about what was scored.
    """

    cases: pd.DataFrame
    lesions: pd.DataFrame
    problems: dict[str, str]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings for scoring a folder.

    Attributes
    ----------
    scoring
        Metrics and lesion protocols.
    labels
        Label values to score; others that `dataset_json` names count as background. Default: those in `dataset_json`, or all
        values in the references except those that a protocol ignores. The label `ignore` of `dataset_json` is not scored
        in either case, unless it is one of these.
    ignore_label
        Reference label whose voxels are not scored, and which is not a class, whatever `dataset_json` says.
    dataset_json
        `dataset.json` with the names of the labels; default: searched for in both folders and their parents.
    empty
        How to score cases with an empty reference, a key of `EMPTY_RULES`.
    allow_missing
        Leave out cases that lack a mask or can't be scored, and list them in the result.

    Raises
    ------
    SettingsError
        If a value is unknown.
    """

    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    labels: tuple[int, ...] | None = None
    ignore_label: int | None = None
    dataset_json: str | os.PathLike[str] | None = None
    empty: str = DEFAULT_EMPTY
    allow_missing: bool = False

    def __post_init__(self) -> None:
        check_empty_rule(self.empty)
        for value in (*(self.labels or ()), *([] if self.ignore_label is None else [self.ignore_label])):
            if value not in range(1, LARGEST_LABEL + 1):
                raise SettingsError(f"label {value} can't be scored or ignored; give values from 1 to {LARGEST_LABEL}")


def list_masks(folder: Path) -> dict[str, Path]:
    """Return case -> file for all images of a folder.

    Raises
    ------
    ComparisonError
        If the folder is missing or has no image, or contains a case in two formats.
    """
    if not folder.is_dir():
        raise ComparisonError(f"{folder} is not a folder")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if is_image(p)):
        case = strip_ending(path.name)
        if case in found:
            raise ComparisonError(f"{folder} has case {case} twice: {found[case].name} and {path.name}; remove one")
        found[case] = path
    if not found:
        raise ComparisonError(f"{folder} holds no masks (.nii.gz, .nii, .mha, .nrrd, .png, ...)")
    return found


def _composed(folder: Path) -> dict[str, Path]:
    """List masks by their cases' composed names: macOS spells an accented letter with two characters, others with one."""
    masks = list_masks(folder)
    composed: dict[str, Path] = {}
    for case, path in masks.items():
        name = unicodedata.normalize("NFC", case)
        if name in composed:
            raise ComparisonError(f"{folder} has case {name} in two spellings of one letter; remove one")
        composed[name] = path
    return composed


def evaluate_folders(
    reference_folder: str | os.PathLike[str],
    prediction_folder: str | os.PathLike[str],
    *,
    settings: EvaluateSettings | None = None,
    processes: int = 1,
) -> Evaluation:
    """Score all predictions of a folder.

    Raises
    ------
    ComparisonError
        If a case lacks a mask or can't be scored; the message lists the cases.
    """
    settings = settings or EvaluateSettings()
    references, predictions = _composed(Path(reference_folder)), _composed(Path(prediction_folder))
    problems = {c: "no prediction" for c in references.keys() - predictions.keys()}
    problems |= {c: "no reference" for c in predictions.keys() - references.keys()}
    if problems and not settings.allow_missing:
        raise_problems(
            problems, f"give every case a mask in {reference_folder} and {prediction_folder}, or add --allow-missing"
        )
    common = sorted(references.keys() & predictions.keys())
    if not common:
        raise ComparisonError(f"{reference_folder} and {prediction_folder} have no case in common")
    notices: list[str] = []
    described = settings.dataset_json or _find_dataset_json(Path(reference_folder), Path(prediction_folder))
    label_set = _label_set(settings, described, [references[c] for c in common], notices)
    tasks = [Task(c, references[c], predictions[c], label_set, settings.scoring) for c in common]
    rows: list[Row] = []
    lesions: list[Row] = []
    scores = run_tasks(tasks, processes)
    bar = tqdm(scores, total=len(tasks), desc="scoring", unit="mask", disable=None)  # None: only on a terminal
    for task, result in zip(tasks, bar, strict=True):
        if isinstance(result, str):
            problems[task.case] = result
            continue
        rows += [{"case": task.case, **row} for row in result.cases]
        lesions += [{"case": task.case, **row} for row in result.lesions]
    if problems and not settings.allow_missing:
        raise_problems(problems, "fix these cases, or add --allow-missing to leave them out")
    if not rows:
        raise ComparisonError(f"no case can be scored: {'; '.join(f'{c}: {why}' for c, why in problems.items())}")
    cases = apply_empty_rule(pd.DataFrame(rows), settings.scoring.protocols, settings.empty)
    if share := empty_share(cases):
        notices.append(f"{share} {EMPTY_RULES[settings.empty]}")
    # keep the header of an empty table, which readers of the file need
    table = pd.DataFrame(lesions, columns=None if lesions else ["case", *LESION_FIELDS])
    return Evaluation(cases, table, dict(sorted(problems.items())), tuple(notices))


def _label_set(
    settings: EvaluateSettings, described: str | os.PathLike[str] | None, references: Sequence[Path], notices: list[str]
) -> LabelSet:
    """Return the labels to score: those requested, those in dataset.json, or those that occur."""
    ignore = frozenset() if settings.ignore_label is None else frozenset({settings.ignore_label})
    if settings.labels is not None:
        named = _named(settings, described)
        # a label that the data set ignores is still no background, unless it is asked for
        chosen = label_set_of(
            settings.labels, ignore | (named.ignore - frozenset(settings.labels) if named else frozenset())
        )
        others = named.allowed - chosen.allowed if named else frozenset()
        if others:
            them = shortened([str(value) for value in sorted(others)], NAMED)
            notices.append(f"Counted as background, because --labels leaves it out: label {them}.")
        return replace(chosen, unscored=others)
    if described:
        return read_label_set(described).ignoring(ignore)
    # a label that a protocol ignores is not a class, even if it occurs
    protocols = [p for p in settings.scoring.protocols if p.ignore_label is not None]
    own_ignore = {p.ignore_label for p in protocols}
    occurring = _occurring(references) - ignore
    if left_out := sorted(occurring & own_ignore):
        names = ", ".join(p.name for p in protocols if p.ignore_label in left_out)
        notices.append(
            f"Label {', '.join(map(str, left_out))} is not scored, because {names} ignores it; --labels scores it anyway."
        )
    return label_set_of(tuple(sorted(occurring - own_ignore)) or (1,), ignore)


def _named(settings: EvaluateSettings, described: str | os.PathLike[str] | None) -> LabelSet | None:
    """Return the data set's own labels; None without a dataset.json, or if one that nobody named can't be read."""
    try:
        return read_label_set(described) if described else None
    except DataError:
        if settings.dataset_json:
            raise
        return None


def raise_problems(problems: dict[str, str], advice: str) -> None:
    """Raise one error that lists the cases.

    Raises
    ------
    ComparisonError
        Always.
    """
    reasons = cases_by_reason(problems)
    named = "; ".join(f"{shortened(cases, NAMED)}: {why}" for why, cases in islice(reasons.items(), NAMED))
    more = f"; and {len(reasons) - NAMED} more reasons" if len(reasons) > NAMED else ""
    raise ComparisonError(f"{counted(len(problems), 'case')} can't be scored: {named}{more}; {advice}")


def cases_by_reason(problems: Mapping[str, str]) -> dict[str, list[str]]:
    """Convert case -> problem to problem -> cases, in the order of the cases."""
    found: dict[str, list[str]] = {}
    for case, why in sorted(problems.items()):
        found.setdefault(why, []).append(case)
    return found


def run_tasks(tasks: Sequence[Task], processes: int) -> Iterator[CaseScores | str]:
    """Yield the scores of each task, or its problem, in order.

    Only file names and rows travel between processes, so the memory depends on the number of cases in progress. Few tasks
    start fewer processes than requested, because starting one costs as much as `CASES_PER_PROCESS` cases.

    Raises
    ------
    ComparisonError
        If one of the processes was killed.
    """
    processes = min(processes, len(tasks) // CASES_PER_PROCESS)
    if processes <= 1:
        yield from map(run_task, tasks)
        return
    # spawn: the caller may hold threads (torch, matplotlib), which must not be forked
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield from pool.map(run_task, tasks, chunksize=4)
        except BrokenProcessPool:
            raise ComparisonError(
                "a process that scores cases was killed, perhaps because memory ran out; run again with fewer --processes"
            ) from None


def run_task(task: Task) -> CaseScores | str:
    """Score one case; return the problem if it can't be scored."""
    try:
        return score_case(read_mask(task.reference), read_mask(task.prediction), task.label_set, task.settings)
    except TransferError as error:
        return str(error)


def _find_dataset_json(*folders: Path) -> Path | None:
    for folder in folders:
        for candidate in (folder / "dataset.json", folder.parent / "dataset.json"):
            if candidate.is_file():
                return candidate
    return None


def _occurring(references: Iterable[Path]) -> set[int]:
    """Return the labels in the references; those that can't be read are named when they are scored."""
    values: set[int] = set()
    for path in references:
        try:
            array = read_mask(path).array
        except DataError:
            continue
        values |= confusion(crop_to_foreground(array, array)).reference_values
    return values - {0}
