"""Score predictions and compare arms."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_transfer.comparison.pipeline import Comparison
    from nnunet_transfer.comparison.report import ReportText
    from nnunet_transfer.comparison.settings import CompareSettings
    from nnunet_transfer.evaluation.folders import EvaluateSettings, Evaluation


def evaluate(
    references: str | PathLike[str],
    predictions: str | PathLike[str],
    *,
    settings: EvaluateSettings | None = None,
    processes: int = 1,
) -> Evaluation:
    """Score a folder of predicted masks against a folder of reference masks with the same names.

    Parameters
    ----------
    references, predictions
        Folders of masks in one of nnU-Net's formats.
    settings
        Labels, lesion protocols, surface metrics and their tolerance in mm, and how to handle missing cases.
    processes
        Number of cases to score in parallel.

    Returns
    -------
    Evaluation
        `cases` is a DataFrame with one row per case and label, `lesions` has one row per reference lesion.

    Raises
    ------
    TransferError
        If a case lacks a mask or can't be scored; the message lists the cases.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> references, predictions = getfixture("mask_folders")  # three cases; each prediction misses a quarter
    >>> scores = nt.evaluate(references, predictions).cases
    >>> scores[["case", "dice"]].round(3).values.tolist()
    [['a', 0.857], ['b', 0.857], ['c', 0.857]]
    """
    from nnunet_transfer.evaluation.folders import evaluate_folders

    return evaluate_folders(references, predictions, settings=settings, processes=processes)


def compare(
    datasets: Sequence[str | int],
    *,
    out: str | PathLike[str],
    arms: Sequence[str] | None = None,
    settings: CompareSettings | None = None,
    processes: int = 1,
    scores_folder: str | PathLike[str] | None = None,
    text: ReportText | None = None,
) -> Comparison:
    """Compare the arms of one or several targets by cross-validation, paired by subject.

    Parameters
    ----------
    datasets
        Targets, by id or folder name; `$nnUNet_results` must contain their trained folds.
    out
        Folder for the report, its figures and tables.
    arms
        Names of the trainers to compare; default: all except pretrainers.
    settings
        Lesion protocols, rule for empty references, baseline, bootstrap, region of practical equivalence.
    processes
        Number of cases to score in parallel.
    scores_folder
        Folder that caches the scores of single cases for the next comparison; default: a folder in `out`.
    text
        Notes to print in the report, and whether it shows every case.

    Returns
    -------
    Comparison
        `table(name)` returns a tidy DataFrame (`summary`, `tests`, `cases`, `folds`, ...); `report` is the path of the
        report.

    Raises
    ------
    TransferError
        If cases, folds, sources or references don't allow a paired comparison.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> dataset, out = getfixture("trained_arms")  # 2 folds of 4 cases, made up
    >>> comparison = nt.compare([dataset], out=out, settings=nt.CompareSettings(draws=200, tables_only=True))
    >>> tests = comparison.table("tests")
    >>> bool((tests["difference"] > 0).any()), sorted(tests["n_subjects"].unique().tolist())
    (True, [8])
    """
    from nnunet_transfer.comparison import compare

    return compare(
        datasets, out=out, arms=arms, settings=settings, processes=processes, scores_folder=scores_folder, text=text
    )
