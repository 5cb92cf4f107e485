"""Snakemake's executor for runs on this machine, a plug-in: each step is a fork of a process that has nnU-Net loaded.

Starting nnU-Net takes seconds, a step of a small study less. Python's fork server loads it once; a step is still a
process of its own, which can be killed, and which ends with all memory that it took.
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
from nnunet_transfer.study.processes import STOPPING, end_at_signals, kill_group

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
    """Runs jobs of the study's workflow, and of no other: a job is the step that its wildcard names."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        super().__init__(workflow, logger)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([PRELOADED])
        self.file = workflow.executor_settings.study
        # Snakemake counts what a job takes only if there was another one to choose, and what it gives back always: behind
        # each step that was ready alone, it starts one more at a time than it may (snakemake/snakemake#3913)
        self.slots = threading.Semaphore(workflow.executor_settings.slots)

    def run_job(self, job: Any) -> None:
        """Start a step."""
        # Snakemake's own handler lets all steps that run come to their end
        end_at_signals()
        self.report_job_submission(SubmittedJobInfo(job))
        if not job.output:  # the rule that asks for all results
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
                process.start()
                process.join()
        except Exception as error:
            self.report_job_error(SubmittedJobInfo(job), msg=f"the step couldn't be started: {error}\n")
            return
        # what a killed step started would go on, and hold its lock
        kill_group(process.pid)
        if -process.exitcode in STOPPING:
            os.kill(os.getpid(), -process.exitcode)
        if process.exitcode:
            self.report_job_error(SubmittedJobInfo(job), msg=_reason(process.exitcode))
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
        """Do nothing; `kill_session` ends the steps of a run that was stopped."""


def _reason(status: int) -> str:
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}\n"
    return ""
