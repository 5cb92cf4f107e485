"""Run a step in its forked process."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from pathlib import Path

from nnunet_transfer.errors import TransferError
from nnunet_transfer.study.jobs import study_jobs
from nnunet_transfer.study.processes import end_at_signals
from nnunet_transfer.study.reading import read_study
from nnunet_transfer.study.steps import find_job, run_job

#: the module that the fork server imports before it forks
PRELOADED = "nnunet_transfer.study.preloaded"


def run_forked(file: str, job: str, log: str, threads: int) -> None:
    """Run one step of a study as `nnunet_transfer study step` does; exit with status 2 if it can't be done.

    Parameters
    ----------
    job : key of the step
    log : file that all output is appended to
    threads : number of cores of this step
    """
    os.setpgrp()
    end_at_signals()
    # forks inherit the fork server's start method: each of nnU-Net's workers would import nnU-Net again, unlike in
    # `nnUNetv2_train`
    multiprocessing.set_start_method(None, force=True)
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as stream:
        for output in (sys.stdout, sys.stderr):
            output.flush()
            os.dup2(stream.fileno(), output.fileno())
    # for this process and its children
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    study = read_study(file)
    try:
        run_job(study, find_job(study_jobs(study), job))
    except TransferError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
