"""What the studies beside this file share: nnU-Net's folders, preparing, training, and a queue that resumes."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
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


def run_from_command_line(description: str | None, queue: Callable[[Path], Iterable[Step]]) -> None:
    """Run the steps of a script in the folders that its command line names; exit with the names of those that failed.

    Parameters
    ----------
    description : of the script
    queue : takes the folder that everything is written to, below which there is a folder `curves` and one `sources`
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="holds the nnUNet_raw of `real_input/prepare.py`")
    parser.add_argument("out", type=Path, help="gets everything that is written")
    parser.add_argument("--stop", type=Path, help="end after the present training once this file appears")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="PATTERN", help="run the steps alone whose names match one of these"
    )
    args = parser.parse_args()
    out = args.out.resolve()
    os.environ.update(nnunet_environment(args.work.resolve() / "nnUNet_raw", out))
    for folder in ("curves", "sources"):
        (out / folder).mkdir(exist_ok=True)
    steps = [step for step in queue(out) if any(fnmatch(step.name, pattern) for pattern in args.only)]
    failed = run_queue(steps, out / "logs", args.stop)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


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
