"""Compare all arms of one or several targets: collect, score, analyse, report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from nnunet_transfer import paths
from nnunet_transfer.comparison.analysis import TABLES, TargetResult, adjust_family, analyse
from nnunet_transfer.comparison.baselines import choose_baselines
from nnunet_transfer.comparison.collect import score_runs
from nnunet_transfer.comparison.consensus import consensus
from nnunet_transfer.comparison.duplicates import same_weights
from nnunet_transfer.comparison.earlier_networks import earlier_network_notices
from nnunet_transfer.comparison.report import ReportText, write_report
from nnunet_transfer.comparison.results import (
    find_runs,
    short_titles,
    source_notices,
)
from nnunet_transfer.comparison.same_plans import plans_notices, splits_notices
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.targets import pair_predictions, read_target, titles_of
from nnunet_transfer.comparison.terminal_table import text_table
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.evaluation.folders import NAMED, cases_by_reason
from nnunet_transfer.evaluation.tables import csv_text
from nnunet_transfer.files import write_text
from nnunet_transfer.subjects import find_origin, manifest_folder
from nnunet_transfer.words import shortened

#: cached scores of single cases, beside the report, so that the next comparison is fast
CACHE = "scores"
#: table over all targets, if there are several
CONSENSUS = "consensus.csv"


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes
    ----------
    results
        The results of each target.
    report
        Path of the report, or of the summary if no report was requested.
    """

    results: tuple[TargetResult, ...]
    report: Path

    def table(self, name: str) -> pd.DataFrame:
        """Return a table with the rows of all targets, as in its CSV file.

        Parameters
        ----------
        name
            One of `TABLES`.

        Raises
        ------
        SettingsError
            If there is no table with this name.
        """
        if name not in TABLES:
            raise SettingsError(f"no table {name!r}; there are: {', '.join(TABLES)}")
        return joined_table(self.results, name)


def compare(
    datasets: Sequence[str | int],
    *,
    out: str | os.PathLike[str],
    arms: Sequence[str] | None = None,
    settings: CompareSettings | None = None,
    processes: int = 1,
    scores_folder: str | os.PathLike[str] | None = None,
    text: ReportText | None = None,
) -> Comparison:
    """Compare the arms of each target and write tables, figures and the report to `out`.

    Parameters
    ----------
    datasets : ids or names of the targets; one that is given twice is compared once
    arms : trainer names, with or without suffixes; default: every trainer but the pretrainers
    settings : settings of the comparison
    processes : number of cases to score in parallel
    scores_folder : folder of cached scores; default: a folder in `out`
    text : what the report states besides the results; left-out cases are added

    Raises
    ------
    ComparisonError
        If cases, folds, sources or references don't allow a paired comparison.
    """
    settings = settings or CompareSettings()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    cache = Path(scores_folder) if scores_folder else out / CACHE
    left_out: list[str] = []
    briefly: list[str] = []
    results = []
    # results of all targets are joined by their titles
    titles = titles_of(list(dict.fromkeys(map(paths.dataset_name, datasets))))
    for name, title in titles.items():
        result, problems = _compare_target(name, title, arms, settings, cache, processes)
        for why, cases in cases_by_reason(problems).items():
            left_out.append(f"{result.target.title}, {', '.join(cases)}: {why}")
            briefly.append(f"{result.target.title}, {shortened(cases, NAMED)}: {why}")
        results.append(result)
    adjusted = adjust_family(results)
    _write_tables(adjusted, out, briefly)
    if settings.tables_only:
        return Comparison(adjusted, out / "summary.txt")
    text = text or ReportText()
    text = replace(text, left_out=(*text.left_out, *left_out))
    return Comparison(adjusted, write_report(adjusted, out, text))


def _compare_target(
    name: str, title: str, arms: Sequence[str] | None, settings: CompareSettings, cache: Path, processes: int
) -> tuple[TargetResult, dict[str, str]]:
    """Return the result of a target, and case -> why it was left out."""
    found = find_runs(
        name,
        arms=arms,
        configuration=settings.configuration,
        plans=settings.plans,
        transfer_plans=settings.transfer_plans,
    )
    runs = short_titles(found)
    # before scoring, which may take an hour
    baselines = choose_baselines(runs, settings.baseline, name)
    problems: dict[str, str] = {}
    notices = [*source_notices(runs), *same_weights(runs), *plans_notices(runs), *splits_notices(runs)]
    target = replace(read_target(name, runs, problems, notices), title=title)
    folds = pair_predictions(target, runs, problems, allow_missing=settings.allow_missing)
    notices += earlier_network_notices(runs, folds)
    origin = find_origin(folds, manifest_folder(name))
    checks: list[str] = []
    scored = score_runs(
        target,
        runs,
        folds,
        origin,
        settings.scoring(name),
        cache_folder=cache,
        processes=processes,
        problems=problems,
        notices=checks,
        allow_missing=settings.allow_missing,
    )
    # cases that can't be scored are left out
    origin = origin.of(scored.cases["case"].unique())
    notices += [text for text in (origin.warning, origin.statement, *checks) if text]
    return analyse(target, runs, baselines, scored.cases, scored.lesions, notices, settings), problems


def joined_table(results: Sequence[TargetResult], name: str) -> pd.DataFrame:
    """Return a table with the rows of all targets, with the name of the target in the first column."""
    frames = []
    for result in results:
        frame: pd.DataFrame = getattr(result, name)
        if len(frame) and "target" not in frame:
            frame = frame.assign(target=result.target.title)[["target", *frame.columns]]
        if len(frame):
            frames.append(frame)
    if not frames:
        # an empty table of lesions keeps its header, so that readers find the columns
        return next((getattr(r, name) for r in results), pd.DataFrame())
    return pd.concat(frames, ignore_index=True)


def _write_tables(results: Sequence[TargetResult], out: Path, left_out: Sequence[str]) -> None:
    for name in TABLES:
        table = joined_table(results, name)
        if len(table.columns):
            write_text(out / f"{name}.csv", csv_text(table))
        else:
            # no text, and no file left over from an earlier comparison
            (out / f"{name}.csv").unlink(missing_ok=True)
    agreed = consensus(results)
    if len(agreed):
        write_text(out / CONSENSUS, csv_text(agreed))
    else:
        (out / CONSENSUS).unlink(missing_ok=True)
    write_text(out / "summary.txt", text_table(results, left_out))
