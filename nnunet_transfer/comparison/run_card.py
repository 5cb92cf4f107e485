"""Provenance of a comparison: data, arms, recipes, hardware and hours, from the files of the trainings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer import run_record
from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.results import Run
from nnunet_transfer.comparison.same_plans import configuration_of, splits_checksums
from nnunet_transfer.comparison.targets import Target
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, sha256_of
from nnunet_transfer.naming import is_ours
from nnunet_transfer.subjects import without_donor_names

#: number of characters of a checksum to show
SHORT_SUM = 12


@dataclass(frozen=True)
class DataCard:
    """The data of a target: counts, licence, and checksums of the references and of the folds (several if they changed)."""

    title: str
    dataset: str
    cases: int
    subjects: int
    folds: int
    references_sha256: str
    splits_sha256: str
    licence: str
    citation: str
    patch: str


@dataclass(frozen=True)
class ArmCard:
    """Description of one arm and the cost of its trainings.

    Attributes
    ----------
    code, title, trainer : code, title, and trainer name without seed
    source, task, domain, sha256, licence : description of the loaded source; empty for scratch, several if folds differ
    seeds : number of trainings per fold; a range if targets differ
    hours : wall-clock time of all trainings; NaN if one of them has no record of it
    coverage : part of the network -> share loaded from the source, the lowest of all trainings
    warnings : warnings of the transfers for readers of the results
    """

    code: str
    title: str
    trainer: str
    source: str
    task: str
    domain: str
    sha256: str
    licence: str
    recipe: str
    schedule: str
    seeds: str
    hours: float
    devices: tuple[str, ...]
    coverage: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def data_card(result: TargetResult) -> DataCard:
    """Describe the data of a target."""
    target = result.target
    described = _json(result.runs[0].folder / "dataset.json")
    configuration = configuration_of(result.runs[0]) or {}
    patch = " × ".join(map(str, _list(configuration.get("patch_size"))))
    batch = configuration.get("batch_size")
    runs = (*result.runs, *result.curve_runs)
    splits = dict.fromkeys(recorded for run in runs for recorded in splits_checksums(run).values())
    return DataCard(
        title=target.title,
        dataset=target.dataset,
        cases=result.n_cases,
        subjects=result.n_subjects,
        folds=result.n_folds,
        references_sha256=references_checksum(target),
        splits_sha256=", ".join(recorded[:SHORT_SUM] for recorded in splits),
        licence=str(described.get("licence", "")),
        citation=str(described.get("reference", "")),
        patch=f"{patch}{f', batch {batch}' if batch else ''}",
    )


def references_checksum(target: Target) -> str:
    """Return the first digits of the SHA-256 over names and contents of all compared references."""
    total = hashlib.sha256()
    for case in sorted(c for cases in target.folds.values() for c in cases):
        if case in target.references:
            total.update(f"{case} {sha256_of(target.references[case])}\n".encode())
    return total.hexdigest()[:SHORT_SUM]


def arm_cards(results: Sequence[TargetResult], codes: Mapping[str, str]) -> list[ArmCard]:
    """Describe every arm over all targets; those that are only in learning curves come last and have no code."""
    runs: dict[str, list[Run]] = {}
    for run in _runs(results):
        runs.setdefault(run.arm.name, []).append(run)
    return [_arm_card(codes.get(name, ""), own) for name, own in runs.items()]


def _arm_card(code: str, runs: Sequence[Run]) -> ArmCard:
    arm = runs[0].arm
    folders = [validation.parent for run in runs for validation in run.folds.values()]
    records = [_json(folder / run_record.FILE) for folder in folders]
    reports = [_json(folder / "transfer_report.json") for folder in folders]
    first: dict[str, Any] = next((r["run"] for r in records if isinstance(r.get("run"), dict)), {})
    seconds = [_dict(r.get("totals")).get("wall_seconds") for r in records]
    known = [s for s in seconds if isinstance(s, int | float)]
    devices = dict.fromkeys(str(s["device"]) for r in records for s in _sessions_of(r) if s.get("device"))
    epochs, iterations = first.get("epochs"), first.get("iterations_per_epoch")
    return ArmCard(
        code=code,
        title=arm.title,
        trainer=str(arm.trainer),
        source=_stated(reports, "source") or arm.source or "",
        task=arm.task,
        domain=arm.domain,
        sha256=_stated(reports, "sha256", SHORT_SUM),
        licence=_stated(reports, "licence"),
        recipe=str(first.get("recipe") or (arm.trainer.recipe if is_ours(arm.trainer.base) else "")),
        schedule=f"{epochs} × {iterations}" if epochs and iterations else "",
        seeds=_number_of_seeds(runs),
        hours=sum(known) / 3600 if len(known) == len(folders) else float("nan"),
        devices=tuple(devices),
        coverage=_coverage(reports),
        # reports are shared with people who may not know the donors
        warnings=tuple(dict.fromkeys(without_donor_names(str(w)) for r in reports for w in _list(r.get("warnings")))),
    )


def _stated(reports: Sequence[Mapping[str, Any]], key: str, length: int | None = None) -> str:
    """Return what transfer reports state, all values if they differ."""
    return ", ".join(dict.fromkeys(str(report[key])[:length] for report in reports if report.get(key)))


def _number_of_seeds(runs: Sequence[Run]) -> str:
    counts = sorted(set(Counter(run.folder.parent for run in runs).values()))
    return " to ".join(str(n) for n in counts[:: max(1, len(counts) - 1)])


def _coverage(reports: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    lowest: dict[str, float] = {}
    for report in reports:
        for part, share in _dict(report.get("coverage")).items():
            if isinstance(share, int | float):
                lowest[part] = min(share, lowest.get(part, share))
    return lowest


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sessions_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [session for session in _list(record.get("sessions")) if isinstance(session, dict)]


def software(results: Sequence[TargetResult]) -> str:
    """Return the software versions that the trainings recorded; several if they differ."""
    found: dict[str, dict[str, None]] = {}
    for session in _sessions(results):
        for name, version in _dict(session.get("versions")).items():
            if version:
                found.setdefault(name, {}).setdefault(str(version))
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())


def started(results: Sequence[TargetResult]) -> str:
    """Return the dates of the start of the first training and the end of the last one."""
    times = [session[key] for session in _sessions(results) for key in ("started", "updated") if session.get(key)]
    days = sorted({str(time)[:10] for time in times})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else ""


def _sessions(results: Sequence[TargetResult]) -> Iterator[dict[str, Any]]:
    """Yield the sessions that the trainings recorded, those of all folds."""
    for run in _runs(results):
        for validation in run.folds.values():
            yield from _sessions_of(_json(validation.parent / run_record.FILE))


def _runs(results: Sequence[TargetResult]) -> Iterator[Run]:
    """Yield the runs of the compared arms, then those of arms that are only in learning curves."""
    yield from (run for result in results for run in result.runs)
    yield from (run for result in results for run in result.curve_runs)


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a file; an empty dict if it is missing or malformed."""
    try:
        return _dict(read_json(path))
    except (DataError, OSError):
        return {}
