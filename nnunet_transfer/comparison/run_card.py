"""Provenance of a comparison: data, arms, recipes, hardware and hours, from the files of the trainings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.results import Run
from nnunet_transfer.comparison.targets import Target
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, sha256_of
from nnunet_transfer.naming import is_ours

#: number of characters of a checksum to show
SHORT_SUM = 12


@dataclass(frozen=True)
class DataCard:
    """The data of a target: counts, licence, and checksums of the references and of the folds."""

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
    source, task, domain, sha256, licence : description of the loaded source; empty for scratch
    seeds : number of trainings per fold
    hours : wall-clock time of all trainings; NaN if no record was kept
    coverage : part of the network -> share loaded from the source
    warnings : warnings of the transfer for readers of the results
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
    seeds: int
    hours: float
    devices: tuple[str, ...]
    coverage: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def data_card(result: TargetResult) -> DataCard:
    """Describe the data of a target."""
    target = result.target
    described = _json(result.runs[0].folder / "dataset.json")
    plans = _json(result.runs[0].folder / "plans.json")
    configuration = plans.get("configurations", {}).get(result.runs[0].configuration, {})
    patch = " × ".join(map(str, configuration.get("patch_size", ())))
    batch = configuration.get("batch_size")
    splits = _provenance(result.runs[0]).get("run", {}).get("splits_sha256") or ""
    return DataCard(
        title=target.title,
        dataset=target.dataset,
        cases=result.n_cases,
        subjects=result.n_subjects,
        folds=len(target.folds),
        references_sha256=references_checksum(target),
        splits_sha256=splits[:SHORT_SUM],
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
    """Describe every arm over all targets."""
    runs: dict[str, list[Run]] = {}
    for result in results:
        for run in result.runs:
            runs.setdefault(run.arm.name, []).append(run)
    return [_arm_card(codes[name], own) for name, own in runs.items()]


def _arm_card(code: str, runs: Sequence[Run]) -> ArmCard:
    arm = runs[0].arm
    folders = [validation.parent for run in runs for validation in run.folds.values()]
    records = [_json(folder / "provenance.json") for folder in folders]
    report = _json(folders[0] / "transfer_report.json") if folders else {}
    first: dict[str, Any] = next((r["run"] for r in records if isinstance(r.get("run"), dict)), {})
    seconds = [r["totals"]["wall_seconds"] for r in records if "wall_seconds" in r.get("totals", {})]
    devices = dict.fromkeys(s["device"] for r in records for s in r.get("sessions", ()) if s.get("device"))
    epochs, iterations = first.get("epochs"), first.get("iterations_per_epoch")
    return ArmCard(
        code=code,
        title=arm.title,
        trainer=str(arm.trainer),
        source=str(report.get("source") or arm.source or ""),
        task=arm.task,
        domain=arm.domain,
        sha256=str(report.get("sha256", ""))[:SHORT_SUM],
        licence=str(report.get("licence", "")),
        recipe=str(first.get("recipe") or (arm.trainer.recipe if is_ours(arm.trainer.base) else "")),
        schedule=f"{epochs} × {iterations}" if epochs and iterations else "",
        seeds=len({run.seed for run in runs}),
        hours=sum(seconds) / 3600 if seconds else float("nan"),
        devices=tuple(devices),
        coverage=report.get("coverage", {}) if isinstance(report.get("coverage"), dict) else {},
        warnings=tuple(map(str, warnings)) if isinstance(warnings := report.get("warnings"), list) else (),
    )


def software(results: Sequence[TargetResult]) -> str:
    """Return the software versions that the trainings recorded; several if they differ."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for run in result.runs:
            for session in _provenance(run).get("sessions", ()):
                for name, version in (session.get("versions") or {}).items():
                    if version:
                        found.setdefault(name, {}).setdefault(str(version))
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())


def started(results: Sequence[TargetResult]) -> str:
    """Return the dates of the start of the first training and the end of the last one."""
    times = [
        session[key]
        for result in results
        for run in result.runs
        for session in _provenance(run).get("sessions", ())
        for key in ("started", "updated")
        if session.get(key)
    ]
    days = sorted({str(time)[:10] for time in times})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else ""


def _provenance(run: Run) -> dict[str, Any]:
    return _json(next(iter(run.folds.values())).parent / "provenance.json") if run.folds else {}


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a file; an empty dict if it is missing or malformed."""
    try:
        content = read_json(path)
    except (DataError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
