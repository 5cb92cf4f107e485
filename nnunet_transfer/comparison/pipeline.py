"""Compare all arms of one or several targets: collect, score, analyse, report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunet_transfer import paths
from nnunet_transfer.comparison.analysis import TABLES, TargetResult, adjust_family, analyse
from nnunet_transfer.comparison.bootstrap import DEFAULT_DRAWS
from nnunet_transfer.comparison.collect import score_runs
from nnunet_transfer.comparison.paired import Settings
from nnunet_transfer.comparison.report import ReportText, write_report
from nnunet_transfer.comparison.report_tables import text_table
from nnunet_transfer.comparison.results import Arm, Run, find_runs, pair_predictions, read_target, short_titles
from nnunet_transfer.comparison.statistics import DEFAULT_ROPE
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.evaluation.protocols import LesionProtocol, get_protocol
from nnunet_transfer.evaluation.scores import DEFAULT_TOLERANCE_MM, ScoringSettings
from nnunet_transfer.files import write_text
from nnunet_transfer.naming import ARMS
from nnunet_transfer.subjects import find_origin, raw_dataset

#: scores of single cases, kept beside the report so that a second comparison is fast
CACHE = "scores"
DEFAULT_BASELINE = next(iter(ARMS))

Protocols = Sequence[str | LesionProtocol]


@dataclass(frozen=True)
class Comparison:
    """The results of all targets, and the report (without one: the summary) that was written."""

    results: tuple[TargetResult, ...]
    report: Path


def compare(
    datasets: Sequence[str | int],
    *,
    out: str | os.PathLike[str],
    arms: Sequence[str] | None = None,
    configuration: str | None = None,
    plans: str | None = None,
    baseline: str = DEFAULT_BASELINE,
    protocols: Protocols | Mapping[int, Protocols] = (),
    surface: bool = True,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    processes: int = 1,
    allow_missing: bool = False,
    note: str = "",
    rope: float = DEFAULT_ROPE,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    scores_folder: str | os.PathLike[str] | None = None,
    tables_only: bool = False,
    all_cases: bool = False,
    title: str = "",
    command: str = "",
) -> Comparison:
    """Compare the arms of each target and write tables, figures and the report into `out`.

    Parameters
    ----------
    datasets : ids or names of the targets
    arms, configuration, plans : as in `find_runs`
    baseline : the arm that the others are compared with, with or without suffixes
    protocols : lesion protocols for all targets, or per data set id
    note : a sentence on the data for the head of the report
    rope : half-width of the region of practical equivalence
    draws, seed : of every bootstrap
    tables_only : write no figures and no report
    all_cases : draw every case; by default those that tell most
    title, command : the study's name, and what was typed, for the report's run card
    scores_folder : where single cases' scores are kept for the next comparison; default: a folder in `out`

    Raises
    ------
    ComparisonError
        If cases, folds or references don't allow a paired comparison.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    left_out: list[str] = []
    results = []
    for dataset in datasets:
        wanted = protocols.get(int(dataset), ()) if isinstance(protocols, Mapping) else protocols
        chosen = tuple(p if isinstance(p, LesionProtocol) else get_protocol(p) for p in wanted)
        name = paths.dataset_name(dataset)
        runs = short_titles(find_runs(name, arms=arms, configuration=configuration, plans=plans))
        problems: dict[str, str] = {}
        notices: list[str] = []
        target = read_target(name, runs, problems, notices)
        folds = pair_predictions(target, runs, problems, allow_missing=allow_missing)
        origin = find_origin(folds, raw_dataset(name))
        notices.append(origin.statement)
        scored = score_runs(
            target,
            runs,
            folds,
            origin,
            ScoringSettings(chosen, surface, tolerance_mm),
            cache_folder=Path(scores_folder) if scores_folder else out / CACHE,
            processes=processes,
            problems=problems,
            notices=notices,
            allow_missing=allow_missing,
        )
        left_out += [f"{target.title}, {case}: {why}" for case, why in sorted(problems.items())]
        reference = _baseline(runs, baseline, name)
        results.append(
            analyse(target, runs, reference, chosen, scored.cases, scored.lesions, notices, Settings(draws, seed, rope))
        )
    adjusted = adjust_family(results)
    _write_tables(adjusted, out)
    if tables_only:
        return Comparison(adjusted, out / "summary.txt")
    text = ReportText(note, tuple(left_out), title, command, all_cases)
    return Comparison(adjusted, write_report(adjusted, out, text))


def _baseline(runs: Sequence[Run], wanted: str, dataset: str) -> Arm:
    exact = {r.arm for r in runs if wanted in (r.trainer, r.arm.name)}
    found = exact or {r.arm for r in runs if wanted == r.arm.trainer.base}
    # of a learning curve's points, the one trained on all cases
    largest = [arm for arm in found if arm.trainer.cases is None] or found
    if len(largest) == 1:
        return next(iter(largest))
    names = ", ".join(dict.fromkeys(r.arm.name for r in runs))
    problem = "fits several arms" if found else "was not trained"
    raise ComparisonError(f"{dataset}: the baseline {wanted} {problem}; choose one with --baseline: {names}")


def _write_tables(results: Sequence[TargetResult], out: Path) -> None:
    for name in TABLES:
        frames = []
        for result in results:
            frame: pd.DataFrame = getattr(result, name)
            if len(frame) and "target" not in frame:
                frame = frame.assign(target=result.target.title)[["target", *frame.columns]]
            if len(frame.columns):
                frames.append(frame)
        if frames:
            write_text(out / f"{name}.csv", pd.concat(frames, ignore_index=True).to_csv(index=False))
        else:
            # nothing to say, and nothing left over from an earlier comparison
            (out / f"{name}.csv").unlink(missing_ok=True)
    write_text(out / "summary.txt", text_table(results))
