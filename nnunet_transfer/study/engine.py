"""Run a study's workflow with Snakemake."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from nnunet_transfer.errors import StudyError
from nnunet_transfer.study import marks
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.gpus import visible_gpus
from nnunet_transfer.study.jobs import Job

#: one run of a study at a time
RUN_LOCK = "run.lock"


def run_study(
    study: Study,
    jobs: dict[str, Job],
    *,
    slots: int,
    profile: Path | None = None,
    dry: bool = False,
    options: Sequence[str] = (),
) -> None:
    """Run all steps that aren't done; ends when all are done, or when what is left can't be done.

    Parameters
    ----------
    slots : steps at a time on this machine, or jobs at a time in the cluster
    profile : folder with Snakemake's `config.yaml`, for instance for SLURM
    dry : only resolve what would run
    options : for Snakemake

    Raises
    ------
    StudyError
        If a step failed, or the study is being run already.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise StudyError("Snakemake is missing; it needs Python 3.11 or newer: pip install snakemake")
    study.folder.mkdir(parents=True, exist_ok=True)
    with _alone(study), as_file(files(__package__).joinpath("Snakefile")) as snakefile:
        _forget_lost_results(study, jobs)
        command = [
            sys.executable,
            "-m",
            "snakemake",
            *("--snakefile", str(snakefile)),
            *("--directory", str(study.folder)),
            *("--config", f"study={study.file}"),
            # marks are named after all they depend on: neither times nor code decide what is run again
            *("--rerun-triggers", "input"),
            "--rerun-incomplete",
            "--keep-going",
            # a killed run leaves Snakemake's own lock behind; ours goes with the process
            "--nolock",
            *("--scheduler", "greedy"),
            *(_profile(profile, slots) if profile else _local(study, slots)),
            *(["--dry-run", "--quiet", "rules"] if dry else []),
            *options,
        ]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        code = subprocess.run(command, env=environment, check=False).returncode
    if code and not dry:
        raise StudyError(_failures(study, jobs) or f"Snakemake ended with status {code}; its messages stand above")
    if code:
        raise StudyError(f"Snakemake can't resolve the study (status {code}); its messages stand above")


def _local(study: Study, slots: int) -> list[str]:
    limits = [f"slots={slots}"]
    if gpus := visible_gpus():
        limits.append(f"gpu={len(gpus)}")
    # slots and GPUs decide what runs at a time; Snakemake would also count cores and leave GPUs idle
    cores = slots * max(resources.cpus for resources in study.resources.values())
    return ["--cores", str(cores), "--resources", *limits]


def _profile(profile: Path, slots: int) -> list[str]:
    if not (profile / "config.yaml").is_file():
        raise StudyError(f"{profile} has no config.yaml; see docs/slurm.md for a profile")
    return ["--profile", str(profile.absolute()), "--jobs", str(slots)]


@contextlib.contextmanager
def _alone(study: Study) -> Iterator[None]:
    with marks.locked_at_once(study.folder / marks.LOCKS / RUN_LOCK) as free:
        if not free:
            raise StudyError(f"{study.file} is being run already; see `nnunet_transfer study status {study.file}`")
        yield


def _forget_lost_results(study: Study, jobs: dict[str, Job]) -> None:
    """Drop the marks of reports that were deleted since, so that they are made again."""
    from nnunet_transfer.study.steps import report_folder

    for job in jobs.values():
        lost = job.kind == "compare" and not (study.folder / "comparison" / job.settings["target"]).is_dir()
        if lost or (job.kind == "report" and not (report_folder(study) / "report.html").is_file()):
            marks.mark(study.folder, job, marks.DONE).unlink(missing_ok=True)


def _failures(study: Study, jobs: dict[str, Job]) -> str:
    failed = [(job, found) for job in jobs.values() if (found := marks.read_mark(study.folder, job, marks.FAILED))]
    if not failed:
        return ""
    job, found = failed[0]
    more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
    return f"step {job.name} failed: {found['error']}{more}; see {marks.last_log(study.folder, job)}, then run the study again"
