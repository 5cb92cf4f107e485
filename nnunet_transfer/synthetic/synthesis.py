"""Make a whole data set from label maps: in parallel, resumable and reproducible by seed."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_transfer import __version__
from nnunet_transfer.conversion.plan import check_id_is_free
from nnunet_transfer.errors import DataError, TransferError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.processes import end_with_parent
from nnunet_transfer.subjects import DONORS, MADE_FROM, MANIFEST
from nnunet_transfer.synthetic.case import ALIGNMENTS, RECORDS, make_case
from nnunet_transfer.synthetic.lesions import MODELS
from nnunet_transfer.synthetic.settings import CasePlan, Plan
from nnunet_transfer.tables import write_csv
from nnunet_transfer.words import counted
from nnunet_transfer.work import collected, id_held

logger = logging.getLogger(__name__)

#: file with settings, versions, and the parameters of every case
SYNTHESIS = "synthesis.json"


def synthesize(plan: Plan, *, processes: int = 1) -> Path:
    """Make the data set; an interrupted run is resumed.

    Returns
    -------
    Path
        The data set's folder.

    Raises
    ------
    TransferError
        If a case can't be made, or a worker process was killed. Finished cases are kept.
    """
    parts = ("imagesTr", "labelsTr", RECORDS, ALIGNMENTS)
    with id_held(plan.folder):
        check_id_is_free(plan.folder.name)  # another process may have used the id since the plan was made
        with collected(plan.folder, parts, state=plan.state()) as work:
            _make_all(plan, work, processes)
            _write_tables(plan, work)
    return plan.folder


def _make_all(plan: Plan, work: Path, processes: int) -> None:
    """Make the cases that an earlier run hasn't made."""
    done = {case.name for case in plan.cases if (work / RECORDS / f"{case.name}.json").is_file()}
    if done:
        logger.info("%d of %d cases are there from a run before", len(done), len(plan.cases))
    left = [case for case in plan.cases if case.name not in done]
    problems: list[str] = []
    bar = tqdm(total=len(plan.cases), initial=len(done), desc=plan.folder.name, unit="case", disable=None)
    with bar:
        for number, (case, problem) in enumerate(_make_cases(plan, left, work, processes), start=len(done) + 1):
            if problem:
                problems.append(f"{case.name}: {problem}")
            bar.update()
            if bar.disable and number % max(1, len(plan.cases) // 10) == 0:  # a log file gets some lines instead
                logger.info("%d of %d cases", number, len(plan.cases))
    if problems:
        more = f" (and {counted(len(problems) - 1, 'more case')} failed)" if len(problems) > 1 else ""
        raise DataError(f"{min(problems)}{more}; finished cases are kept for the next run")


def _make_cases(
    plan: Plan, cases: Sequence[CasePlan], work: Path, processes: int
) -> Iterator[tuple[CasePlan, str | None]]:
    """Make cases; yield each with its error, if any, in the order of completion."""
    if processes == 1 or len(cases) < 2:
        for case in cases:
            yield case, _attempt(plan, case, work)
        return
    # torch doesn't survive a fork after use
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(cases)), context, _start_worker, (plan, work)) as pool:
        try:
            waiting = iter(cases)
            running: dict[Future[str | None], CasePlan] = {}
            while True:
                for case in islice(waiting, 2 * processes - len(running)):
                    running[pool.submit(_attempt_in_worker, case)] = case
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise TransferError(
                "a worker process was killed, perhaps because memory ran out; run again with fewer --processes, finished "
                "cases are kept"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _attempt(plan: Plan, case: CasePlan, work: Path) -> str | None:
    try:
        make_case(plan, case, work)
    except DataError as error:
        return str(error)
    except MemoryError:
        return "not enough memory for this case"
    return None


_run: tuple[Plan, Path]  # plan of this worker process, sent once instead of with every case


def _start_worker(plan: Plan, work: Path) -> None:
    global _run
    _run = plan, work
    end_with_parent()
    # on Ctrl-C, the parent lets running cases finish and starts no others
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _attempt_in_worker(case: CasePlan) -> str | None:
    plan, work = _run
    return _attempt(plan, case, work)


def _write_tables(plan: Plan, work: Path) -> None:
    """Write the tables, and remove files that a finished data set doesn't need."""
    records = [read_json(work / RECORDS / f"{case.name}.json") for case in plan.cases]
    _remove_others(plan, work)
    write_json(work / SYNTHESIS, _manifest(plan, records))
    donors = {r["case"]: r["lesion"]["donor"] for r in records if "lesion" in r}
    rows = [(r["case"], r["subject"], r["label_map"], donors.get(r["case"], "")) for r in records]
    write_csv(work / MANIFEST, ("case", "subject", "label_map", "donor"), sorted(rows))
    if plan.validation:
        fold_of = {case.name: plan.validation[case.map.subject] for case in plan.cases}
        write_json(
            work / "splits_final.json",
            [
                {
                    "train": sorted(c for c, f in fold_of.items() if f != fold),
                    "val": sorted(c for c, f in fold_of.items() if f == fold),
                }
                for fold in range(max(fold_of.values()) + 1)
            ],
        )
    write_json(work / "dataset.json", _dataset_json(plan, donors))
    for part in (RECORDS, ALIGNMENTS):
        shutil.rmtree(work / part)


def _remove_others(plan: Plan, work: Path) -> None:
    """Remove surplus cases of an earlier run, and incomplete files of a killed run."""
    wanted = {f"{case.name}_0000.nii.gz" for case in plan.cases} | {f"{case.name}.nii.gz" for case in plan.cases}
    for folder in ("imagesTr", "labelsTr"):
        for path in (work / folder).iterdir():
            if path.name not in wanted:
                path.unlink()


def _manifest(plan: Plan, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    packages = ("numpy", "scipy", "nibabel", "SimpleITK", "torch", "cornucopia")
    lesions = {
        "donors": {d.name: d.kind for d in plan.donors},
        "left_out": list(plan.left_out),
        "models": {kind: MODELS[kind].description for kind in sorted({d.kind for d in plan.donors})},
    }
    return {
        "made_by": f"nnunet_transfer {__version__} synthesize",
        "versions": {name: found for name in packages if (found := _version(name))},
        "settings": asdict(plan.settings),
        "structures": {name: sorted(values) for name, values in plan.maps.numbering.structures.items()},
        **({"lesions": lesions} if plan.donors else {}),
        "cases": list(records),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _dataset_json(plan: Plan, donors: dict[str, str]) -> dict[str, Any]:
    real = plan.settings.images == "real"
    images = "real images" if real else f"images synthesised (profile {plan.settings.profile})"
    lesions = (
        f", lesions of {counted(len(plan.donors), 'donor')} pasted with modelled intensities" if plan.donors else ""
    )
    return {
        "channel_names": {"0": "T1"},
        "labels": dict(plan.labels),
        "numTraining": len(plan.cases),
        "file_ending": ".nii.gz",
        "description": f"SYNTHETIC: {images} from label maps of {plan.maps.origin.name}{lesions}; see {SYNTHESIS}",
        **plan.maps.terms,
        MADE_FROM: list(plan.maps.made_from),
        **({DONORS: dict(sorted(donors.items()))} if donors else {}),
        "synthesized_by": f"nnunet_transfer {__version__} synthesize",
    }
