"""Convert a data set: convert the cases in parallel, write the tables, move all of it into place."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer.dataset_conversion import tables
from nnunet_transfer.dataset_conversion.case_pictures import convert_picture
from nnunet_transfer.dataset_conversion.case_volumes import convert_volumes
from nnunet_transfer.dataset_conversion.description import Case
from nnunet_transfer.dataset_conversion.discovery import Problem
from nnunet_transfer.dataset_conversion.job import Job
from nnunet_transfer.dataset_conversion.plan import Plan
from nnunet_transfer.dataset_conversion.record import Record, state_of
from nnunet_transfer.dataset_conversion.splits import make_splits
from nnunet_transfer.errors import DataError, SettingsError, TransferError
from nnunet_transfer.files import read_json, write_json

logger = logging.getLogger(__name__)

#: what was converted and how; tells a second run that nothing has changed
STATE = "conversion.json"
_RECORDS = ".records"
_PARTS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs", _RECORDS)
#: reasons that are shown in an error; all of them stand in the log
_SHOWN = 3


@dataclass(frozen=True)
class Outcome:
    """What a conversion did.

    Attributes
    ----------
    folder : the data set
    records : of all cases in it
    problems : of the cases left out
    remarks : what a user should see
    converted : how many cases this run converted
    unchanged : the data set was there already and nothing was done
    """

    folder: Path
    records: list[Record]
    problems: list[Problem]
    remarks: list[str]
    converted: int
    unchanged: bool = False


def convert(plan: Plan) -> Outcome:
    """Convert all cases of a plan and put the data set in place.

    An interrupted conversion is taken up where it stopped; if nothing has changed since the last one, nothing is done.

    Raises
    ------
    DataError
        If cases can't be converted (unless skips are allowed) or the data set exists and differs. Nothing is left in
        nnU-Net's folder then.
    """
    states = {case.name: state_of(case, plan.settings()) for case in plan.cases}
    if (done := _up_to_date(plan, states)) is not None:
        return done
    with _work_folder(plan.job.out):
        records, problems, converted = _convert_cases(plan, states)
        problems = [*plan.found.problems, *problems]
        _refuse(plan, records, problems)
        remarks = _remarks(records)
        splits, more = make_splits(records, plan.options.folds, plan.options.group_by)
        remarks += more
        _write_tables(plan, records, problems, splits, states, remarks)
        _move_into_place(plan)
    return Outcome(plan.folder, records, problems, remarks, converted)


def _up_to_date(plan: Plan, states: Mapping[str, str]) -> Outcome | None:
    """Return the outcome of the last conversion if it still holds."""
    if not plan.folder.exists() or plan.options.overwrite:
        return None
    state = read_json(plan.folder / STATE) if (plan.folder / STATE).is_file() else {}
    if state.get("states") != dict(states):
        raise DataError(f"{plan.folder} exists and isn't what this would make; give --overwrite or another id with -d")
    records = [Record.from_json(content) for content in state["records"]]
    if missing := [name for record in records for name in record.files if not (plan.folder / name).exists()]:
        raise DataError(f"{plan.folder / missing[0]} is gone; give --overwrite to convert anew")
    problems = [Problem(p["case"], tuple(map(Path, p["files"])), p["reason"]) for p in state["problems"]]
    return Outcome(plan.folder, records, problems, state["remarks"], 0, unchanged=True)


@contextmanager
def _work_folder(folder: Path) -> Iterator[None]:
    """Keep the folder where cases are collected after an interrupt, to go on with; remove it after an error."""
    try:
        for part in _PARTS:
            (folder / part).mkdir(parents=True, exist_ok=True)
        yield
    except (DataError, SettingsError):
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _convert_cases(plan: Plan, states: Mapping[str, str]) -> tuple[list[Record], list[Problem], int]:
    finished = {record.case: record for record in _finished(plan.job.out) if states.get(record.case) == record.state}
    _remove_strangers(plan.job.out, finished.values())
    todo = [case for case in plan.cases if case.name not in finished]
    if finished:
        logger.info("going on: %d of %d cases are done", len(finished), len(plan.cases))
    problems = []
    for number, (case, result) in enumerate(_run(todo, plan, states), start=1):
        if isinstance(result, Record):
            finished[case.name] = result
        else:
            logger.warning("%s: %s", case.name, result)
            problems.append(Problem(case.name, tuple(case.files()), result))
        if number % max(1, len(todo) // 10) == 0:
            logger.info("%d of %d cases", number, len(todo))
    return [finished[c.name] for c in plan.cases if c.name in finished], problems, len(todo) - len(problems)


def _finished(out: Path) -> Iterator[Record]:
    for path in sorted((out / _RECORDS).glob("*.json")):
        yield Record.from_json(read_json(path))


def _remove_strangers(out: Path, records: Any) -> None:
    """Remove what an interrupted conversion with other settings left."""
    known = {name for record in records for name in (*record.files, f"{_RECORDS}/{record.case}.json")}
    for part in _PARTS:
        for path in (out / part).iterdir():
            if f"{part}/{path.name}" not in known:
                path.unlink()


def convert_case(case: Case, job: Job, state: str) -> Record | str:
    """Convert one case and keep its record, so that it needn't be converted again; return why not if it can't be."""
    try:
        record = (convert_picture if job.pictures else convert_volumes)(case, job, state)
    except DataError as error:
        return str(error)
    except MemoryError:
        return "not enough memory for this case"
    write_json(job.out / _RECORDS / f"{case.name}.json", record.to_json())
    return record


def _run(cases: Sequence[Case], plan: Plan, states: Mapping[str, str]) -> Iterator[tuple[Case, Record | str]]:
    if plan.options.processes == 1 or len(cases) < 2:
        for case in cases:
            yield case, convert_case(case, plan.job, states[case.name])
        return
    pool = ProcessPoolExecutor(min(plan.options.processes, len(cases)))
    try:
        futures: dict[Future[Record | str], Case] = {
            pool.submit(convert_case, case, plan.job, states[case.name]): case for case in cases
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise TransferError(  # no DataError: finished cases are kept
            "a worker process was ended, perhaps for lack of memory; run again with fewer --processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse(plan: Plan, records: Sequence[Record], problems: Sequence[Problem]) -> None:
    reasons = "; ".join(f"{p.case}: {p.reason}" for p in problems[:_SHOWN])
    if len(problems) > _SHOWN:
        reasons += f"; and {len(problems) - _SHOWN} more"
    if problems and not plan.options.allow_skips:
        raise DataError(
            f"{len(problems)} of {len(records) + len(problems)} cases can't be converted ({reasons}); "
            f"mend them, or leave them out with --allow-skips"
        )
    if not records:
        raise DataError(f"no case can be converted ({reasons})")
    if not any(record.split == "train" for record in records):
        raise DataError(f"no case has a label; is {plan.request.root} the right folder?")


def _remarks(records: Sequence[Record]) -> list[str]:
    """Return what concerns the data set as a whole, and how many cases have which warning."""
    remarks = []
    by_content: dict[str, list[str]] = defaultdict(list)
    for record in records:
        by_content[record.content].append(record.case)
    for same in by_content.values():
        if len(same) > 1:
            remarks.append(f"the same image under {len(same)} names: {', '.join(same[:5])}; kept in one fold")
    orientations = Counter(record.written_orientation for record in records if record.written_orientation)
    if len(orientations) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in orientations.most_common())
        remarks.append(f"mixed orientations ({counts}): nnU-Net does not align them; --reorient does")
    for kind, cases in _warnings(records).items():
        remarks.append(f"{kind} in {len(cases)} cases: {', '.join(cases[:5])}{' ...' if len(cases) > 5 else ''}")
    return remarks


def _warnings(records: Sequence[Record]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for warning in record.warnings:
            # without the file's name and numbers, equal warnings of many cases become one
            found[re.sub(r"\d+ ", "", warning.split(": ", 1)[-1])].append(record.case)
    return found


def _write_tables(
    plan: Plan,
    records: Sequence[Record],
    problems: Sequence[Problem],
    splits: list[dict[str, list[str]]],
    states: Mapping[str, str],
    remarks: list[str],
) -> None:
    out, rule = plan.job.out, plan.job.rule
    tables.write_dataset_json(out, plan.description, plan.request.channels, rule, records)
    tables.write_manifest(out, records)
    tables.write_skips(out, problems, plan.request.root)
    tables.write_classes(out, records)
    tables.write_label_map(out, rule)
    if splits:
        write_json(out / "splits_final.json", splits)
    write_json(
        out / STATE,
        {
            "settings": plan.settings(),
            "source": str(plan.request.root),
            "states": dict(states),
            "remarks": remarks,
            "problems": [{"case": p.case, "files": list(map(str, p.files)), "reason": p.reason} for p in problems],
            "records": [record.to_json() for record in records],
        },
    )


def _move_into_place(plan: Plan) -> None:
    out = plan.job.out
    shutil.rmtree(out / _RECORDS)
    for part in _PARTS:
        if (out / part).is_dir() and not any((out / part).iterdir()):
            (out / part).rmdir()
    old = plan.folder.with_name(f".old-{plan.folder.name}")
    if plan.folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(plan.folder, old)
    os.replace(out, plan.folder)
    shutil.rmtree(old, ignore_errors=True)
