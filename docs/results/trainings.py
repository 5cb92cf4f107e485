"""What the studies beside this file share: nnU-Net's folders, preparing, training, and a queue that resumes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLANS = "nnUNetPlans_demo"
CONFIGURATION = "2d"


@dataclass(frozen=True)
class Step:
    """One piece of work: a function, its arguments, and the file that is there once it is done."""

    name: str
    function: Callable[..., None]
    arguments: Mapping[str, Any]
    result: Path


def nnunet_environment(raw: Path, folder: Path) -> dict[str, str]:
    """Make nnU-Net's other two folders below `folder`; return the variables that name them and keep work in process."""
    folders = {"nnUNet_raw": raw, **{name: folder / name for name in ("nnUNet_preprocessed", "nnUNet_results")}}
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)
    return {
        **{name: str(path) for name, path in folders.items()},
        "nnUNet_sources": str(folders["nnUNet_results"] / "sources"),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "0",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }


def run_queue(steps: Sequence[Step], folder: Path, stop: Path | None = None) -> list[str]:
    """Run, one after another in this process, all steps whose result is missing; return the names of those that failed.

    Parameters
    ----------
    folder : gets each step's output in `<name>.log`
    stop : a file whose appearance ends the queue after the present step
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, step in enumerate(steps, start=1):
        if step.result.exists():
            continue
        if stop is not None and stop.exists():
            print("stopped", flush=True)
            break
        start = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {number}/{len(steps)} {step.name}", end=" ", flush=True)
        with open(folder / f"{step.name}.log", "a", encoding="utf-8") as log:
            try:
                with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                    step.function(**step.arguments)
            except (Exception, SystemExit):
                traceback.print_exc(file=log)
                failed.append(step.name)
                print("FAILED", end=" ")
        print(f"{time.monotonic() - start:.0f} s", flush=True)
    return failed


def prepare(
    dataset: int,
    patch: Sequence[int],
    batch_size: int,
    configuration: str = CONFIGURATION,
    spacing: Sequence[float] | None = None,
) -> None:
    """Fingerprint, plan and preprocess one data set, and install its splits."""
    from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
    from nnunet_transfer.paths import nnunet_raw
    from nnunet_transfer.plans import write_transfer_plans

    folder = extract_fingerprint_in_process(dataset, foreground_voxels=1_000_000)
    write_transfer_plans(
        dataset,
        profile="demo",
        configurations=[configuration],
        patch_size=tuple(patch),
        batch_size=batch_size,
        target_spacing=spacing,
    )
    preprocess_in_process(dataset, PLANS, [configuration])
    shutil.copyfile(nnunet_raw() / folder.name / "splits_final.json", folder / "splits_final.json")


def train(
    dataset: int,
    trainer: str,
    fold: int,
    *,
    configuration: str = CONFIGURATION,
    source_name: str = "",
    sources: Path | None = None,
) -> None:
    """Train and validate, on from the last checkpoint if there is one.

    Parameters
    ----------
    source_name : name of the source that a pre-trainer writes
    sources : another registry than that of the environment
    """
    import torch

    from nnunet_transfer._nnunet import run_training_in_process
    from nnunet_transfer.trainers import get_trainer_class

    changes = {"nnUNet_source_name": source_name} if source_name else {}
    if sources is not None:
        changes["nnUNet_sources"] = str(sources)
    with variables(changes), one_thread():
        run_training_in_process(
            dataset,
            configuration,
            fold,
            get_trainer_class(trainer),
            PLANS,
            device=torch.device("cpu"),
            continue_training=True,  # without a checkpoint it starts at epoch 0
        )


@contextlib.contextmanager
def variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch in one thread and spare the data loader its search for thread pools, a few ms a batch."""
    import nnunetv2.training.dataloading.data_loader as module
    import torch

    torch.set_num_threads(1)
    search: Any = vars(module)["threadpool_limits"]
    vars(module)["threadpool_limits"] = lambda **_: contextlib.nullcontext()
    try:
        yield
    finally:
        vars(module)["threadpool_limits"] = search
