"""Training samples per second of each trainer, relative to stock nnU-Net and to training without data loading.

Each trainer trains on the same data with the same plans; one after another, because their workers would take the CPU
from each other, and in several rounds, of which the median counts. The bound is the trainer's own training step on
one batch that stays on the device. The first iterations, in which workers fill their queue and the network is
compiled, don't count.

    python -m benchmarks.bench_training                              # small, for a CPU
    OMP_NUM_THREADS=1 python -m benchmarks.bench_training --clock cpu --workers 0  # for a CPU that does other work, too
    python -m benchmarks.bench_training --device cuda --profile plain --configuration 3d_fullres \
        --patch-size 128 128 128 --batch-size 2 --iterations 100 --warm-up 30
    python -m benchmarks.bench_training --device cuda --profile plain --configuration 2d \
        --patch-size 512 512 --batch-size 12 --iterations 200 --warm-up 60
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

STOCK = "nnUNetTrainer"
TRAINERS = (
    "nnUNetTrainerScratch",
    "nnUNetPretrainerSegmentation",
    "nnUNetPretrainerClassification",
    "nnUNetPretrainerSelfSupervised",
)
CASES = 8
#: of one device with 16 cores, where stock is bound by its workers; and of the bound
GOAL_STOCK, GOAL_BOUND = 2.0, 0.9
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Speed:
    """Samples per second of a training with its data loading and of its step alone; CPU seconds of a worker's sample."""

    training: float
    bound: float
    worker: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--configuration", default="2d", choices=["2d", "3d_fullres"])
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--patch-size", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=10, help="iterations before those that count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="nnUNet_n_proc_DA; nnU-Net's own default if not given")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="cpu: this process's; use --workers 0")
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            os.environ[variable] = str(Path(folder) / variable)
            os.makedirs(os.environ[variable])
        if args.workers is not None:
            os.environ["nnUNet_n_proc_DA"] = str(args.workers)
        with contextlib.redirect_stdout(sys.stderr):  # nnU-Net's own messages
            speeds = measure(args)
        report(args, speeds)


def measure(args: argparse.Namespace) -> dict[tuple[str, bool], Speed]:
    """Return the median speed of each trainer, with augmentation in the workers (False) and on the device (True)."""
    build = prepare(args)
    runs = [(STOCK, False), *((name, on_device) for name in args.trainers for on_device in (False, True))]
    speeds: dict[tuple[str, bool], list[Speed]] = {run: [] for run in runs}
    for _ in range(args.rounds):
        for run in runs:
            speeds[run].append(speed(build(*run), args.iterations, args.warm_up, CLOCKS[args.clock]))
    return {
        run: Speed(*(statistics.median(getattr(s, field.name) for s in each) for field in fields(Speed)))
        for run, each in speeds.items()
    }


def prepare(args: argparse.Namespace) -> Callable[[str, bool], Any]:
    """Write and preprocess a data set; return what builds a trainer on it."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
    from nnunet_transfer.files import read_json
    from nnunet_transfer.plans import write_transfer_plans
    from nnunet_transfer.trainers import get_trainer_class
    from nnunet_transfer.training.device_augmentation import FORCE, VARIABLE
    from tests.nnunet_data import write_blob_dataset, write_splits

    edge = max(args.patch_size) + 32
    shape = (edge, edge, 8 if args.configuration == "2d" else edge)
    raw = Path(os.environ["nnUNet_raw"])
    dataset = write_blob_dataset(raw, 901, cases=CASES, shape=shape, labels=2)
    classes = "".join(f"case{i:02d},{'first' if i // 2 % 2 else 'second'}\n" for i in range(CASES))
    (raw / dataset / "classes.csv").write_text(f"case,class\n{classes}", encoding="utf-8")
    folder = extract_fingerprint_in_process(dataset, foreground_voxels=1_000_000)
    plans = write_transfer_plans(
        dataset,
        profile=args.profile,
        configurations=[args.configuration],
        patch_size=tuple(args.patch_size),
        batch_size=args.batch_size,
    ).stem
    preprocess_in_process(dataset, plans, [args.configuration])
    write_splits(folder)

    def build(name: str, on_device: bool) -> Any:
        os.environ[VARIABLE] = FORCE if on_device else "0"
        content = read_json(folder / f"{plans}.json") | {"continue_training": False}
        trainer_class = nnUNetTrainer if name == STOCK else get_trainer_class(name)
        dataset_json = read_json(folder / "dataset.json")
        trainer = trainer_class(content, args.configuration, 0, dataset_json, torch.device(args.device))
        trainer.on_train_start()
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        return trainer

    return build


def speed(trainer: Any, iterations: int, warm_up: int, clock: Callable[[], float]) -> Speed:
    """Measure one trainer and end its workers."""
    batches = trainer.dataloader_train
    training = _rate(trainer, lambda: next(batches), iterations, warm_up, clock)
    batch = next(batches)
    batch = {key: _moved(value, trainer.device) for key, value in batch.items()}
    bound = _rate(trainer, lambda: dict(batch), iterations, 3, clock)
    _end(trainer)
    return Speed(training, bound, worker_seconds(trainer))


def _rate(
    trainer: Any, give: Callable[[], dict[str, Any]], iterations: int, warm_up: int, clock: Callable[[], float]
) -> float:
    # each step ends by reading its loss, which waits for the device
    for _ in range(warm_up):
        trainer.train_step(give())
    start = clock()
    for _ in range(iterations):
        trainer.train_step(give())
    return iterations * trainer.batch_size / (clock() - start)


def worker_seconds(trainer: Any, batches: int = 3) -> float:
    """Return the CPU time that a worker needs for a sample: to cut a patch and, where it has to, augment it."""
    loader = trainer.dataloader_train
    # nnU-Net's loader without and with processes
    source = loader.data_loader if hasattr(loader, "data_loader") else loader.generator
    start = time.process_time()
    for _ in range(batches):
        source.generate_train_batch()
    return (time.process_time() - start) / (batches * trainer.batch_size)


def _moved(value: Any, device: Any) -> Any:
    import torch

    if isinstance(value, list) and isinstance(value[0], torch.Tensor):
        return [tensor.to(device) for tensor in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _end(trainer: Any) -> None:
    """End the workers as the end of a training does, without writing anything."""
    from nnunet_transfer.training.device_augmentation import nnunets_own

    for loader in map(nnunets_own, (trainer.dataloader_train, trainer.dataloader_val)):
        if hasattr(loader, "_finish"):
            loader._finish()


def report(args: argparse.Namespace, speeds: dict[tuple[str, bool], Speed]) -> None:
    """Print the table."""
    import torch
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    from nnunet_transfer.training.provenance import device_name

    patch = "×".join(map(str, args.patch_size))
    print(
        f"{device_name(torch.device(args.device))}, {os.cpu_count()} cores, {get_allowed_n_proc_DA()} workers; "
        f"{args.configuration}, patch {patch}, batch {args.batch_size}, profile {args.profile}; "
        f"median of {args.rounds} × {args.iterations} iterations, {args.clock} time; torch {torch.__version__}\n"
    )
    stock = speeds[STOCK, False]
    print(
        "| trainer | augmentation | samples/s | × stock | × own bound | × stock's bound | worker, CPU ms per sample |"
    )
    print("|---|---|---|---|---|---|---|")
    for (name, on_device), found in speeds.items():
        print(
            f"| `{name}` | {'device' if on_device else 'workers'} | {found.training:.1f} | "
            f"{found.training / stock.training:.2f} | {found.training / found.bound:.2f} | "
            f"{found.training / stock.bound:.2f} | {1000 * found.worker:.1f} |"
        )
    print(
        f"\nGoal, augmentation on one modern GPU with 16 cores: ≥ {GOAL_STOCK:g} × stock where stock is bound by its "
        f"workers, ≥ {GOAL_BOUND:g} × own bound."
    )


if __name__ == "__main__":
    main()
