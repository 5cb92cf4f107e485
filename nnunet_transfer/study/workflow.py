"""Input of the Snakefile: files, commands and resources of a study's steps."""

from __future__ import annotations

import shlex
import sys
from typing import Any
from urllib.parse import unquote

from nnunet_transfer.study import state
from nnunet_transfer.study.jobs import Job, study_jobs
from nnunet_transfer.study.reading import read_study


class Workflow:
    """A study as Snakemake sees it; all paths are relative to the study's folder.

    Parameters
    ----------
    file : the study file, with special characters percent-encoded as in an address
    """

    def __init__(self, file: str) -> None:
        self.study = read_study(unquote(file))
        self.jobs = study_jobs(self.study)
        self._by_key = {job.key: job for job in self.jobs.values()}

    def results(self) -> list[str]:
        """Return the marks of all jobs: Snakemake wouldn't recreate a missing one if all jobs that need it are done."""
        return [self._mark(job) for job in self.jobs.values()]

    def needs(self, wildcards: Any) -> list[str]:
        """Return the marks of the jobs that a job needs."""
        return [self._mark(self.jobs[name]) for name in self._by_key[wildcards.job].needs]

    def output(self, kind: str) -> str:
        """Return the pattern of the marks of a kind of step."""
        return f"{state.STEPS}/{kind}/{{job}}.{state.DONE}"

    def log(self, kind: str) -> str:
        """Return the pattern of the logs of a kind of step."""
        return f"{state.LOGS}/{kind}/{{job}}.log"

    @property
    def command(self) -> str:
        """The shell command of every step."""
        # the step writes its own mark on success; `exec` replaces the shell with the step, so that signals reach the step
        step = shlex.join([sys.executable, "-m", "nnunet_transfer.cli", "study", "step", str(self.study.file)])
        return f"exec {step.replace('{', '{{').replace('}', '}}')} {{wildcards.job:q}} >> {{log:q}} 2>&1"

    def threads(self, kind: str) -> int:
        """Return the number of processor cores."""
        return self.study.resources[kind].cpus

    def resources(self, kind: str) -> dict[str, Any]:
        """Return memory, time limit (minutes) and GPUs under the names that Snakemake's executors use."""
        wanted = self.study.resources[kind]
        gpus = wanted.gpus if self.study.device == "cuda" else 0
        return {
            "mem_mb": round(wanted.memory_gb * 1000),
            "runtime": max(1, round(wanted.hours * 60)),
            "slots": 1,
            **({"gpu": gpus} if gpus else {}),
        }

    def _mark(self, job: Job) -> str:
        return str(state.mark(self.study.folder, job, state.DONE).relative_to(self.study.folder))
