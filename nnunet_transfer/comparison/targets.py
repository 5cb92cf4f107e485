"""References, labels and splits of a target, and the check that every arm predicted its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_transfer import paths
from nnunet_transfer.comparison.results import Run
from nnunet_transfer.errors import ComparisonError, DataError, SettingsError
from nnunet_transfer.evaluation.folders import list_masks, raise_problems
from nnunet_transfer.evaluation.labels import LabelSet, read_label_set
from nnunet_transfer.evaluation.masks import is_image, strip_ending
from nnunet_transfer.folds import read_folds
from nnunet_transfer.words import counted, joined


@dataclass(frozen=True)
class Target:
    """The data set that the arms segment.

    Attributes
    ----------
    dataset : folder name `DatasetXXX_Name`
    references : case -> reference mask
    folds : fold -> its validation cases, as in splits_final.json
    train_sizes : fold -> number of its training cases
    images : case -> image of the first channel; empty if the raw images aren't available
    title : title in the report; default: see `titles_of`
    """

    dataset: str
    label_set: LabelSet
    references: dict[str, Path]
    folds: dict[int, tuple[str, ...]]
    train_sizes: dict[int, int]
    images: dict[str, Path] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", titles_of([self.dataset])[self.dataset])


def titles_of(datasets: Sequence[str]) -> dict[str, str]:
    """Return data set -> title: its name without the number or, where another one has that name too, its whole name."""
    short = {dataset: dataset.split("_", 1)[-1] for dataset in datasets}
    counts = Counter(short.values())
    return {dataset: name if counts[name] == 1 else dataset for dataset, name in short.items()}


def read_target(dataset: str, runs: Sequence[Run], problems: dict[str, str], notices: list[str]) -> Target:
    """Read a target's labels, references and splits.

    Parameters
    ----------
    problems : case -> problem with its reference; new entries are added
    notices : sentences for the top of the report; new ones are appended

    Raises
    ------
    ComparisonError, DataError
        If a run has no numbered fold, or the references or the description of the labels can't be found.
    """
    if whole := next((run for run in runs if not run.folds), None):
        raise ComparisonError(
            f"{whole.trainer} has no numbered fold; fold_all validates on its own training data and can't be "
            f"compared; leave it out with --arms"
        )
    preprocessed = paths.nnunet_preprocessed() / dataset
    raw = _raw_folder(dataset)
    folders = [preprocessed / "gt_segmentations", *([raw / "labelsTr"] if raw else [])]
    present = [f for f in folders if any(map(is_image, f.glob("*")))]
    if not present:
        raise ComparisonError(f"no references of {dataset}: no masks in {' or in '.join(map(str, folders))}")
    references = list_masks(present[0])
    if len(present) == 2:
        problems |= _changed_references(references, list_masks(present[1]))
    described = [f / "dataset.json" for f in (runs[0].folder, preprocessed, *([raw] if raw else []))]
    label_set = read_label_set(next((f for f in described if f.is_file()), described[0]))
    folds, train_sizes = _read_splits(preprocessed, runs, notices)
    images: dict[str, Path] = {}
    if raw and any(map(is_image, (raw / "imagesTr").glob("*"))):
        images = {c[: -len("_0000")]: p for c, p in list_masks(raw / "imagesTr").items() if c.endswith("_0000")}
    return Target(dataset, label_set, references, folds, train_sizes, images)


def _raw_folder(dataset: str) -> Path | None:
    try:
        folder = paths.nnunet_raw() / dataset
    except SettingsError:
        return None
    return folder if folder.is_dir() else None


def _changed_references(used: dict[str, Path], raw: dict[str, Path]) -> dict[str, str]:
    """Return cases whose reference in nnUNet_raw differs from the one used for training and validation."""
    import numpy as np

    from nnunet_transfer.evaluation.masks import geometry_problem, read_mask

    changed = {}
    for case in used.keys() & raw.keys():
        a, b = used[case], raw[case]
        if a.stat().st_size == b.stat().st_size and a.read_bytes() == b.read_bytes():
            continue
        try:
            one, other = read_mask(a), read_mask(b)
        except DataError as error:
            changed[case] = str(error)
            continue
        if geometry_problem(one, other) or not np.array_equal(one.array, other.array):
            changed[case] = "its reference in nnUNet_raw/labelsTr differs from the one in gt_segmentations"
    return changed


def _read_splits(
    preprocessed: Path, runs: Sequence[Run], notices: list[str]
) -> tuple[dict[int, tuple[str, ...]], dict[int, int]]:
    trained = sorted({k for run in runs for k in run.folds})
    path = preprocessed / "splits_final.json"
    if not path.is_file():
        notices.append("No splits_final.json found: the folds were taken from the validation folders.")
        folds = {k: tuple(sorted(list_masks(next(r.folds[k] for r in runs if k in r.folds)))) for k in trained}
        total = sum(map(len, folds.values()))
        return folds, {k: total - len(cases) for k, cases in folds.items()}
    splits = read_folds(path)
    if beyond := [k for k in trained if k >= len(splits)]:
        raise ComparisonError(
            f"fold {beyond[0]} was trained but {path} has only {counted(len(splits), 'fold')}; nnU-Net then draws a random split "
            f"that overlaps the others; remove that fold's folder"
        )
    for k in trained:
        if leaked := sorted(set(splits[k]["train"]) & set(splits[k]["val"])):
            raise ComparisonError(
                f"fold {k} of {path} trains on {len(leaked)} of the cases that validate it ({', '.join(leaked[:5])}"
                f"{', ...' if len(leaked) > 5 else ''}): such scores can't be compared; correct the folds and train again"
            )
    if len(trained) < len(splits):
        which, verb = ("folds", "were") if len(trained) > 1 else ("fold", "was")
        notices.append(f"Only {which} {joined(trained)} of {len(splits)} {verb} trained.")
    folds = {k: tuple(splits[k]["val"]) for k in trained}
    return folds, {k: len(splits[k]["train"]) for k in trained}


def pair_predictions(
    target: Target, runs: Sequence[Run], problems: dict[str, str], *, allow_missing: bool
) -> dict[str, int]:
    """Check that every run has exactly the expected predictions; return case -> fold of the cases to compare.

    Raises
    ------
    ComparisonError
        If predictions or references are missing or superfluous and `allow_missing` is false, or if no case is left. The
        message lists the cases.
    """
    folds: dict[str, int] = {}
    for fold, cases in target.folds.items():
        for case in cases:
            if case in folds:
                raise ComparisonError(f"{target.dataset}: case {case} is validated in folds {folds[case]} and {fold}")
            folds[case] = fold
            if case not in target.references:
                problems[case] = "it has no reference"
    superfluous: dict[str, str] = {}
    for run in runs:
        for fold, expected in target.folds.items():
            where = f"{run.trainer} fold {fold}"
            if fold not in run.folds:
                problems |= {c: f"{where} was not trained, but other arms were" for c in expected if c not in problems}
                continue
            found = {strip_ending(p.name) for p in run.folds[fold].glob("*") if is_image(p)}
            advice = "no prediction" if found else "not validated"
            problems |= {c: f"{where}: {advice}" for c in expected if c not in found and c not in problems}
            superfluous |= {
                c: f"{where} predicts it, but splits_final.json doesn't validate it there"
                for c in found - set(expected)
            }
    if (problems or superfluous) and not allow_missing:
        raise_problems(
            superfluous | problems,
            "finish the training or run nnUNetv2_train ... --val, with the same splits for all arms, or add --allow-missing",
        )
    kept = {c: f for c, f in folds.items() if c not in problems}
    problems |= {f"{c} (extra prediction)": why for c, why in superfluous.items()}
    if not kept:
        raise ComparisonError(f"{target.dataset}: no case is left that every arm predicted")
    return kept


def prediction_file(target: Target, run: Run, case: str, fold: int) -> Path:
    """Return a run's prediction of a case, which may be of another format than the reference."""
    alike = run.folds[fold] / target.references[case].name
    return alike if alike.is_file() else list_masks(run.folds[fold])[case]
