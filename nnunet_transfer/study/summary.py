"""The output of `study check`: what would run, what it needs, and any problems."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from nnunet_transfer.study import state
from nnunet_transfer.study.checks import check_study
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.estimates import Estimate, estimate
from nnunet_transfer.study.findings import Finding
from nnunet_transfer.study.jobs import KINDS, Job, study_jobs
from nnunet_transfer.words import counted


@dataclass(frozen=True)
class StudyCheck:
    """What a study would run, what it needs, and its problems; `print` shows all of it.

    Attributes
    ----------
    study
        The study.
    jobs
        Its steps by name.
    expected
        Estimated training time in hours and disk space in GB of the remaining steps.
    findings
        Problems, in the order of the file. The study can't run until those with `stops` are fixed.
    """

    study: Study
    jobs: dict[str, Job]
    expected: Estimate
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[str]:
        """What to fix before the study can run."""
        return [finding.text for finding in self.findings if finding.stops]

    def __str__(self) -> str:
        return _text(self)


def examine(study: Study) -> StudyCheck:
    """Check a study before its first step, or before its remaining steps."""
    jobs = study_jobs(study)
    expected = estimate(study, jobs)
    return StudyCheck(study, jobs, expected, tuple(check_study(study, expected)))


def _text(check: StudyCheck) -> str:
    study, jobs, expected = check.study, check.jobs, check.expected
    total = Counter(job.kind for job in jobs.values())
    left = Counter(job.kind for job in jobs.values() if not state.is_done(study.folder, job))
    unit = "hours of training" if study.device == "cpu" else "GPU hours"
    arms = dict.fromkeys(arm.source or "scratch" for arm in study.arms)
    lines = [
        f"{study.name}: {counted(len(study.targets), 'target')}, {counted(len(study.arms), 'arm')} ({', '.join(arms)}), "
        f"{counted(sum(len(t.folds) for t in study.targets.values()), 'fold')}",
        f"everything is written to {study.folder}",
        "",
        f"{'step':<12}{'all':>6}{'to do':>7}   {unit}",
    ]
    for kind in KINDS:
        if total[kind]:
            hours = expected.hours.get(kind)
            lines.append(f"{kind:<12}{total[kind]:>6}{left[kind]:>7}   {_hours(hours)}".rstrip())
    lines += ["", *_estimates(expected), *_licences(study)]
    lines += [f"{'error' if f.stops else 'note'}: {f.text}" for f in check.findings]
    wrong = len(check.errors)
    lines.append(f"{counted(wrong, 'error')}: fix the file first" if wrong else f"ready: {study.command('run')}")
    return "\n".join(lines)


def _hours(hours: float | None) -> str:
    if hours is None:
        return ""
    return "unknown" if math.isnan(hours) else f"{hours:,.1f}"


def _estimates(expected: Estimate) -> list[str]:
    hours = sum(expected.hours.values())
    if math.isnan(hours):
        time = "time: unknown until the first training on this processor has ended"
    elif expected.measured:
        time = f"time: about {hours:,.1f} hours of training, by what the finished ones took"
    else:
        time = f"time: about {hours:,.0f} GPU hours on an A100; other GPUs differ, and the first training will tell"
    gigabytes = sum(expected.gigabytes.values())
    return [time, f"disk: about {gigabytes:,.1f} GB to be written"]


def _licences(study: Study) -> list[str]:
    """List the terms of data and sources that the study converts or downloads; running it means accepting them."""
    from nnunet_transfer.checkpoints.catalogue import CATALOGUE
    from nnunet_transfer.conversion.catalogue import all_descriptions

    found = {}
    descriptions = all_descriptions()
    for dataset in study.datasets.values():
        if dataset.converter in descriptions:  # an unknown one is a separate finding
            found[dataset.name] = descriptions[dataset.converter].licence
    for source in study.sources.values():
        if source.fetch in CATALOGUE:
            found[source.name] = CATALOGUE[source.fetch].licence
    return [f"licence of {name}: {licence}" for name, licence in found.items() if licence]
