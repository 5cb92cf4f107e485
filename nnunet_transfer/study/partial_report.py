"""The report of an unfinished study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnunet_transfer.errors import StudyError
from nnunet_transfer.study import state
from nnunet_transfer.study.description import SCRATCH, Study
from nnunet_transfer.study.environment import environment
from nnunet_transfer.study.jobs import Job, finetune_job
from nnunet_transfer.study.steps import compare_targets, report_folder


def report_so_far(study: Study, jobs: Mapping[str, Job]) -> tuple[Path, list[str]]:
    """Return the report, and the targets and arms that are missing from it.

    If the study is finished, return its report. Otherwise write a report on the arms whose folds are all trained on every
    target; targets without two such arms are left out.

    Raises
    ------
    StudyError
        If nothing can be compared yet.
    """
    report = report_folder(study) / "report.html"
    if state.is_done(study.folder, jobs["report"]) and report.is_file():
        return report, []
    finished = {
        target.name: [
            arm.name
            for arm in study.arms
            if all(state.is_done(study.folder, jobs[finetune_job(target, arm, fold)]) for fold in target.folds)
        ]
        for target in study.targets.values()
    }
    comparable = {name: arms for name, arms in finished.items() if _can_be_compared(study, arms)}
    if not comparable:
        raise StudyError("no target has the control arm and another one trained on all folds yet; continue the study")
    # only arms trained on all targets are compared; a target with too few of them is left out
    while not _can_be_compared(study, shared := _shared(study, comparable)):
        comparable.pop(min(comparable, key=lambda name: len(comparable[name])))
    left_out = [f"target {name}" for name in study.targets if name not in comparable]
    left_out += [f"arm {arm.name}" for arm in study.arms if arm.name not in shared]
    with environment(study, jobs["report"]):
        made = compare_targets(study, list(comparable), study.folder / "report_so_far", arms=shared)
    return made, left_out


def _shared(study: Study, comparable: Mapping[str, list[str]]) -> list[str]:
    return [arm.name for arm in study.arms if all(arm.name in arms for arms in comparable.values())]


def _can_be_compared(study: Study, names: list[str]) -> bool:
    """Whether the arms include the control arm and another one."""
    wanted = study.comparison.get("baseline", SCRATCH)
    control = [arm for arm in study.arms if arm.is_called(wanted) and arm.name in names]
    return bool(control) and len(names) > 1
