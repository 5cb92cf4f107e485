"""Convert a data set: convert the cases, write the tables, and move everything into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_transfer.conversion import journal, tables
from nnunet_transfer.conversion.case_search import Problem
from nnunet_transfer.conversion.dataset_warnings import dataset_warnings
from nnunet_transfer.conversion.description import Case
from nnunet_transfer.conversion.plan import Plan, check_id
from nnunet_transfer.conversion.record import Record, state_of
from nnunet_transfer.conversion.splits import make_splits
from nnunet_transfer.conversion.tree import LeftOut
from nnunet_transfer.conversion.workers import convert_cases
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.paths import set_folders
from nnunet_transfer.words import counted
from nnunet_transfer.work import collected, id_held

logger = logging.getLogger(__name__)

#: what was converted and how, so that a later run recognises an unchanged data set
STATE = "conversion.json"
_PARTS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
#: number of reasons in an error message; the log has all of them
_SHOWN = 3


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """The result of a conversion.

    Attributes
    ----------
    folder
        The new data set.
    records
        One record for each case in the data set.
    problems
        The cases that were left out, with the reasons.
    warnings
        Warnings for the user.
    converted
        Number of cases that this call converted.
    unchanged
        Whether the data set was already up to date.
    left_out
        Images in the source folder that belong to no case, with the reasons.
    """

    folder: Path
    records: list[Record]
    problems: list[Problem]
    warnings: list[str]
    converted: int
    unchanged: bool = False
    left_out: list[LeftOut] = field(default_factory=list)


def convert(plan: Plan, progress: Progress = lambda done, total: None) -> Outcome:
    """Convert all cases of a plan and put the data set in place.

    An interrupted conversion is resumed. If nothing has changed since the last conversion, nothing is done.

    Parameters
    ----------
    progress : called after each case with the number of finished cases and the number of all cases

    Raises
    ------
    DataError
        If cases can't be converted (unless skips are allowed) or a different data set exists. No data set is then made or
        replaced, and finished cases are kept for the next run.
    """
    identity = json.dumps(plan.identity(), sort_keys=True)
    states = {case.name: state_of(case, identity) for case in plan.cases}
    state = _state_of_all(states, plan.found.problems)
    with id_held(plan.folder):
        check_id(plan.folder.name, set_folders())  # another conversion may have finished since the plan was made
        if (done := _up_to_date(plan, state)) is not None:
            return done
        _refuse(plan, plan.cases, plan.found.problems)  # what file names alone tell
        with collected(plan.folder, _PARTS, overwrite=plan.options.overwrite):
            return _convert(plan, states, state, progress)


def _convert(plan: Plan, states: Mapping[str, str], state: str, progress: Progress) -> Outcome:
    records, failed, converted = _convert_cases(plan, states, progress)
    problems = [*plan.found.problems, *failed]
    _refuse(plan, records, problems, "; finished cases are kept for the next run")
    splits, warnings = make_splits(records, plan.options.folds, plan.options.group_by)
    warnings = [*plan.warnings, *dataset_warnings(records), *warnings]
    outcome = Outcome(plan.folder, records, problems, warnings, converted, left_out=plan.found.left_out)
    _write_tables(plan, outcome, splits, state)
    for part in _PARTS:
        if not any((plan.job.out / part).iterdir()):
            (plan.job.out / part).rmdir()
    return outcome


def _state_of_all(states: Mapping[str, str], problems: Sequence[Problem]) -> str:
    content = json.dumps([states, [(p.case, p.reason) for p in problems]])
    return hashlib.sha256(content.encode()).hexdigest()


def _up_to_date(plan: Plan, state: str) -> Outcome | None:
    """Return the outcome of the last conversion if it is still valid."""
    folder = plan.folder
    if not folder.exists() or plan.options.overwrite:
        return None
    last = _read_state(folder / STATE)
    if last is None or last.state != state:
        raise DataError(
            f"{folder} exists and differs from what this command makes; give --overwrite or another id with -d"
        )
    records = journal.read_journal(folder)
    if missing := [name for record in records for name in record.files if not (folder / name).exists()]:
        raise DataError(f"{folder / missing[0]} is missing; give --overwrite to convert it again")
    return Outcome(folder, records, last.problems, last.warnings, 0, True, plan.found.left_out)


@dataclass(frozen=True)
class _State:
    """What `STATE` says about a finished conversion."""

    state: str
    problems: list[Problem]
    warnings: list[str]


def _read_state(path: Path) -> _State | None:
    """Return what the last conversion wrote; None if it wrote nothing.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        problems = [Problem(p["case"], tuple(map(Path, p["files"])), p["reason"]) for p in content["problems"]]
        return _State(content["state"], problems, [*map(str, content["warnings"])])
    except (KeyError, TypeError):
        raise DataError(f"{path} is damaged, or of another version; give --overwrite to convert again") from None


def _convert_cases(
    plan: Plan, states: Mapping[str, str], progress: Progress
) -> tuple[list[Record], list[Problem], int]:
    """Convert the cases that aren't done yet.

    Returns
    -------
    records : records of all cases, in their order
    problems : cases that can't be converted
    converted : number of cases that this call converted
    """
    out = plan.job.out
    finished: dict[str, Record] = {}
    with contextlib.suppress(DataError):  # an unreadable journal of an interrupted run: all cases are converted again
        finished = {r.case: r for r in journal.read_journal(out) if states.get(r.case) == r.state}
    _remove_strangers(out, finished.values())
    journal.write_journal(out, finished.values())
    todo = [case for case in plan.cases if case.name not in finished]
    if finished:
        logger.info("resuming: %d of %d cases are done", len(finished), len(plan.cases))
    problems = []
    with journal.open_journal(out) as stream:
        for number, (case, result) in enumerate(convert_cases(todo, plan.job, states, plan.options.processes), start=1):
            if isinstance(result, Record):
                journal.add_to_journal(stream, result)
                finished[case.name] = result
            else:
                logger.warning("%s: %s", case.name, result)
                problems.append(Problem(case.name, tuple(case.files()), result))
            progress(len(plan.cases) - len(todo) + number, len(plan.cases))
    problems.sort(key=lambda problem: problem.case)
    return [finished[c.name] for c in plan.cases if c.name in finished], problems, len(todo) - len(problems)


def _remove_strangers(out: Path, records: Iterable[Record]) -> None:
    """Remove files of an interrupted conversion with other settings, and of unfinished cases."""
    known = {name for record in records for name in record.files}
    for part in _PARTS:
        for path in (out / part).iterdir():
            if f"{part}/{path.name}" not in known:
                path.unlink()


def _refuse(plan: Plan, good: Sequence[Case] | Sequence[Record], problems: Sequence[Problem], kept: str = "") -> None:
    """Refuse problems that aren't to be skipped, and what would be no data set to train on.

    Parameters
    ----------
    good : the cases without a problem
    kept : what becomes of the cases that are finished
    """
    reasons = "; ".join(f"{p.case}: {p.reason}" for p in problems[:_SHOWN])
    if len(problems) > _SHOWN:
        reasons += f"; and {len(problems) - _SHOWN} more"
    if problems and not plan.options.allow_skips:
        raise DataError(
            f"{len(problems)} of {counted(len(good) + len(problems), 'case')} can't be converted ({reasons}); "
            f"correct them, or leave them out with --allow-skips{kept if good else ''}"
        )
    if not good:
        raise DataError(f"no case can be converted ({reasons})")
    if not any(case.split == "train" for case in good):
        if any(case.split == "train" for case in plan.cases):
            raise DataError(f"no case for training can be converted ({reasons})")
        raise DataError(f"no case has a label; is {plan.request.root} the right folder?")


def _write_tables(plan: Plan, outcome: Outcome, splits: list[dict[str, list[str]]], state: str) -> None:
    out, rule, records = plan.job.out, plan.job.rule, outcome.records
    tables.write_dataset_json(out, plan.description, plan.request.channels, rule, records)
    tables.write_manifest(out, records)
    tables.write_skips(out, outcome.problems, plan.request.root)
    tables.write_left_out(out, outcome.left_out)
    tables.write_classes(out, records)
    tables.write_label_map(out, rule)
    if splits:
        write_json(out / "splits_final.json", splits)
    journal.write_journal(out, records)
    write_json(
        out / STATE,
        {
            "identity": plan.identity(),
            "source": str(plan.request.root),
            "state": state,
            "warnings": outcome.warnings,
            "problems": [{"case": p.case, "files": [*map(str, p.files)], "reason": p.reason} for p in outcome.problems],
        },
    )
