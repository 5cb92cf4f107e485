"""The steps of a study, and what each needs: a graph that follows from the description alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer.files import sha256_of
from nnunet_transfer.study.description import BEST, Dataset, Source, Study, StudyArm, Target

#: kinds of steps, in the order of execution
KINDS = ("convert", "plan", "preprocess", "add", "pretrain", "rank", "link", "finetune", "compare", "report")
#: kind of step -> the kinds that write to the same place; others share theirs with no other kind
_SAME_PLACE = {"add": ("add", "pretrain"), "pretrain": ("add", "pretrain")}
#: number of hexadecimal digits of a digest in file names
_DIGITS = 12


@dataclass(frozen=True)
class Job:
    """One step.

    Attributes
    ----------
    name : unique name that is valid in file names
    kind : one of `KINDS`
    settings : everything that its result depends on besides the results of other jobs, as JSON types
    needs : names of the jobs whose results it uses
    digest : digest of the settings and of the digests of `needs`; changes if and only if the result may change
    place : what it writes to, whatever data sets and targets are called; jobs of a kind with one place overwrite each other
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    needs: tuple[str, ...]
    digest: str
    place: str

    @property
    def key(self) -> str:
        """The name with the digest."""
        return f"{self.name}.{self.digest}"


def rivals(job: Job) -> list[tuple[str, str]]:
    """Return the kinds of jobs that write where this job may write, each with the name that such a job has in this file."""
    kinds = _SAME_PLACE.get(job.kind, (job.kind,))
    return [(kind, f"{kind}{job.name.removeprefix(job.kind)}") for kind in kinds]


def study_jobs(study: Study) -> dict[str, Job]:
    """Return all jobs by name, each after those that it needs."""
    jobs: dict[str, Job] = {}
    for name, kind, settings, needs, place in _outline(study):
        content = json.dumps([kind, settings, [jobs[need].digest for need in needs]], sort_keys=True, default=str)
        digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]
        jobs[name] = Job(name, kind, settings, tuple(needs), digest, place)
    return jobs


_Outline = tuple[str, str, dict[str, Any], Sequence[str], str]


def _outline(study: Study) -> Iterator[_Outline]:
    used = {s.dataset for s in study.sources.values() if s.dataset} | {t.dataset for t in study.targets.values()}
    for dataset in study.datasets.values():
        if dataset.name in used:
            yield from _dataset(study, dataset)
    for source in study.sources.values():
        yield _source(source)
    for target in study.targets.values():
        yield from _target(study, target)
    comparison = dict(study.comparison)
    yield (
        "report",
        "report",
        {"name": study.name, "comparison": comparison, "targets": list(study.targets)},
        [f"compare-{t}" for t in study.targets],
        "report",
    )


def _dataset(study: Study, dataset: Dataset) -> Iterator[_Outline]:
    name, number = dataset.name, dataset.number
    origin = {
        **_converter(dataset),
        "path": dataset.written.get("path", ""),
        "options": dict(dataset.options),
        "synthetic": dataset.synthetic,
        "seed": dataset.seed,
    }
    yield f"convert-{name}", "convert", {"dataset": name, "id": number, **origin}, (), str(number)
    configurations = list(study.configurations(name))
    plans = {"dataset": name, "id": number, "configurations": configurations, "profile": study.profile}
    yield f"plan-{name}", "plan", {**plans, **dataset.plans}, (f"convert-{name}",), str(number)
    preprocessing = {"dataset": name, "configurations": configurations}
    yield f"preprocess-{name}", "preprocess", preprocessing, (f"plan-{name}",), str(number)


def _converter(dataset: Dataset) -> dict[str, str]:
    """Return what identifies a converter: its name and, for a user's file, its content."""
    name = dataset.written.get("converter", "")
    if not name.endswith(".py"):
        return {"converter": name}
    return {"converter": name, "content": _content(Path(dataset.converter))}


def _content(file: Path) -> str:
    """Return the checksum of a file of the user's; empty if it is missing, which `study check` says."""
    return sha256_of(file) if file.is_file() else ""


def _source(source: Source) -> _Outline:
    settings: dict[str, Any]
    if source.trainer is None:
        settings = {"source": source.name, "checkpoint": source.checkpoint, "fetch": source.fetch, **source.details}
        if source.key_map:
            settings["map_content"] = _content(source.key_map)
        return source_job(source), "add", settings, (), source.name
    settings = {
        "source": source.name,
        "dataset": source.dataset,
        "trainer": str(source.trainer),
        "configuration": source.configuration,
        "fold": source.fold,
    }
    return source_job(source), "pretrain", settings, (f"preprocess-{source.dataset}",), source.name


def _rankings(study: Study, target: Target) -> Iterator[_Outline]:
    """Yield, for each fold of a target, the job that ranks all sources on its training cases."""
    needs = [f"preprocess-{target.dataset}", *map(source_job, study.sources.values())]
    for fold in target.folds:
        settings = {
            "target": target.name,
            "configuration": study.configuration,
            "fold": fold,
            "sources": list(study.sources),
        }
        yield f"rank-{target.name}-f{fold}", "rank", settings, needs, f"{target.name} {fold}"


def source_job(source: Source) -> str:
    """Return the name of the job that makes a source."""
    return f"{'pretrain' if source.trainer else 'add'}-{source.name}"


def finetune_job(target: Target, arm: StudyArm, fold: int) -> str:
    """Return the name of the job that trains an arm on a fold."""
    return f"finetune-{target.name}-{arm.name}-f{fold}"


def _target(study: Study, target: Target) -> Iterator[_Outline]:
    ready, number = f"preprocess-{target.dataset}", study.datasets[target.dataset].number
    named = dict.fromkeys(arm.source for arm in study.arms if arm.named_in_plans)
    for source in named:
        assert source is not None  # an arm that the plans name has a source
        settings: dict[str, Any] = {"target": target.name, "source": source, "configuration": study.configuration}
        needs = [ready]
        if source == BEST:
            for ranking in _rankings(study, target):
                yield ranking
                needs.append(ranking[0])
            settings["folds"] = list(target.folds)
        else:
            needs.append(source_job(study.sources[source]))
        yield f"link-{target.name}-{source}", "link", settings, needs, f"{number} {study.plans_name(source)}"
    trainings: list[str] = []
    for arm in study.arms:
        made = [source_job(study.sources[source]) for source in study.sources_of(arm)]
        linked = [f"link-{target.name}-{arm.source}"] if arm.named_in_plans else []
        plans = study.plans_name(arm.source if arm.named_in_plans else None)
        for fold in target.folds:
            training = {
                "target": target.name,
                "source": arm.source,
                "trainer": str(arm.trainer),
                "configuration": study.configuration,
                "fold": fold,
            }
            trainings.append(finetune_job(target, arm, fold))
            place = f"{number} {arm.trainer} {plans} {study.configuration} {fold}"
            yield trainings[-1], "finetune", training, [ready, *made, *linked], place
    comparison = {"target": target.name, "protocols": list(target.protocols), "comparison": dict(study.comparison)}
    yield f"compare-{target.name}", "compare", comparison, trainings, target.name
