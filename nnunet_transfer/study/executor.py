"""Snakemake's executor for runs on this machine, a plug-in: each step is a fork of a process that has nnU-Net loaded.

Importing nnU-Net takes seconds, longer than some steps of a small study. Python's fork server imports it once. Each step is
still a separate process that can be killed and that frees its memory at the end.
"""

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.executors.base import AbstractExecutor, SubmittedJobInfo
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from nnunet_transfer.study.forked import PRELOADED, run_forked
from nnunet_transfer.study.processes import STOPPING, end_at_signals, kill_group, run_to_end

NAME = "forked"

common_settings = CommonSettings(
    non_local_exec=False,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
)


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Options of the executor: `--forked-study` and `--forked-slots`."""

    study: str = field(default="", metadata={"help": "the study file"})
    slots: int = field(default=1, metadata={"help": "steps at a time"})


class Executor(AbstractExecutor):
    """Executor for the study's workflow only: the wildcard of a job names its step."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        super().__init__(workflow, logger)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([PRELOADED])
        self.file = workflow.executor_settings.study
        # Snakemake only subtracts a job's resources if several jobs were ready, but always adds them back: after each step that
        # was the only one ready, it runs one step more in parallel than allowed (snakemake/snakemake#3913)
        self.slots = threading.Semaphore(workflow.executor_settings.slots)

    def run_job(self, job: Any) -> None:
        """Start a step."""
        # Snakemake's own handler waits for all running steps
        end_at_signals()
        self.report_job_submission(SubmittedJobInfo(job))
        if not job.output:  # the rule that requests all results
            self.report_job_success(SubmittedJobInfo(job))
            return
        log = Path(str(job.log[0])).absolute()
        process = self.context.Process(
            target=run_forked, args=(self.file, job.wildcards.job, str(log), job.threads), name=job.wildcards.job
        )
        threading.Thread(target=self._run, args=(job, process), daemon=True).start()

    def _run(self, job: Any, process: Any) -> None:
        try:
            with self.slots:
                status = run_to_end(process)
        except Exception as error:
            self.report_job_error(SubmittedJobInfo(job), msg=f"the step couldn't be started: {error}\n")
            return
        # child processes of a killed step would keep running and hold its lock
        kill_group(process.pid)
        if -status in STOPPING:
            os.kill(os.getpid(), -status)
        if status:
            self.report_job_error(SubmittedJobInfo(job), msg=_reason(status))
        else:
            self.report_job_success(SubmittedJobInfo(job))

    def get_exec_mode(self) -> Any:
        """Refuse: no job starts Snakemake again."""
        raise NotImplementedError

    def handle_job_success(self, job: Any) -> None:
        """Do nothing; the step has written its own state."""

    def handle_job_error(self, job: Any) -> None:
        """Do nothing; the step has written its own state."""

    def shutdown(self) -> None:
        """Do nothing; all steps have ended."""

    def cancel(self) -> None:
        """Do nothing; `kill_session` ends the steps of a stopped run."""


def _reason(status: int) -> str:
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}\n"
    return ""
