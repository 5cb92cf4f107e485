"""Commands in processes of their own that need not import nnU-Net.

Importing nnU-Net takes some six seconds, most commands on small data less than one. Python's fork server imports it
once per test process; a command is then a fork of it, and so are the workers that nnU-Net would otherwise spawn.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from torch.multiprocessing.spawn import start_processes

from nnunet_transfer.training.progress_plot import ThrottledPlots
from tests.at_an_event.sitecustomize import at_replaced
from tests.cheap import make_cheap
from tests.nnunet_data import no_plot

#: what the fork server imports
PRELOADED = (
    "pytest",
    "nnunet_transfer.study.preloaded",
    "nnunetv2.evaluation.find_best_configuration",
    "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.model_sharing.entry_points",
    "nnunetv2.run.run_training",
    "torch.multiprocessing.spawn",
)

multiprocessing.set_forkserver_preload(list(PRELOADED))


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes
    ----------
    status : as `multiprocessing.Process.exitcode`
    output : what it wrote to both of its streams
    """

    status: int
    output: str


def run_warm(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, killed_at: str | None = None
) -> Ended:
    """Run an installed command in a process of its own.

    Parameters
    ----------
    command : name and arguments
    folder : the working folder
    environment : all variables of the process
    killed_at : pattern of paths; the process is killed as soon as it has written such a file as a whole
    """
    output = folder / ".output"
    context = _warm_context()
    process = context.Process(target=_child, args=(list(command), folder, dict(environment), output, killed_at))
    process.start()
    process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, output.read_text(encoding="utf-8", errors="replace"))


def _warm_context() -> BaseContext:
    """Return the context whose processes are forks of the fork server, which is started first if need be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_def_n_proc", "1")  # nnU-Net reads it when it is imported
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def _child(command: list[str], folder: Path, environment: dict[str, str], output: Path, killed_at: str | None) -> None:
    with open(output, "wb") as stream:
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    _fork_workers()
    _draw_few_voxels()
    torch.set_num_threads = lambda *_: None  # nnU-Net would take as many as there are cores
    ThrottledPlots.plot_now = no_plot  # type: ignore[method-assign] # as in conftest.py
    make_cheap(pytest.MonkeyPatch())  # for the rest of this process
    if killed_at:
        at_replaced(killed_at, signal.SIGKILL)
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=command[0])
    sys.argv = command
    try:
        sys.exit(entry.load()())
    finally:
        sys.stdout.flush()


def _fork_workers() -> None:
    """Let nnU-Net's pools fork this process instead of starting another Python that imports nnU-Net."""
    multiprocessing.set_start_method("fork", force=True)  # a fork server's children start another one by default
    get_context = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: get_context("fork" if method == "spawn" else method)  # type: ignore[assignment]


def _draw_few_voxels() -> None:
    """Let nnU-Net take its statistics of intensities from few voxels: its hundred million take gigabytes."""
    initialise = DatasetFingerprintExtractor.__init__

    def initialise_smaller(self: DatasetFingerprintExtractor, *args: Any, **options: Any) -> None:
        initialise(self, *args, **options)
        self.num_foreground_voxels_for_intensitystats = 100_000

    DatasetFingerprintExtractor.__init__ = initialise_smaller


def start_two(target: Callable[..., None], *args: Any) -> None:
    """Call a function in two processes, as the ranks 0 and 1, and wait for both; torch reports what fails in one."""
    _warm_context()
    start_processes(_as_rank, args=(dict(os.environ), target, *args), nprocs=2, join=True, start_method="forkserver")


def _as_rank(rank: int, environment: dict[str, str], target: Callable[..., None], *args: Any) -> None:
    os.environ.clear()  # of the fork server, when that was started
    os.environ.update(environment)
    target(rank, *args)
