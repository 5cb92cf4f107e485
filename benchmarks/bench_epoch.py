"""Cost of a fine-tuning epoch relative to stock nnU-Net's, on the same plan, machine, batch and data.

Epochs of the two trainers alternate in one process, so that a drifting clock or a busy machine hits both. Prints
the ratio of the medians, for the whole epoch and for its training iterations alone (without checkpoint and plot).

    python -m benchmarks.bench_epoch [--device cuda] [--configuration 3d_fullres] [--profile demo]

On a machine that does other work, `--clock cpu` counts processor time, of one thread per process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOAL = 1.03
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--configuration", default="2d", choices=["2d", "3d_fullres"])
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--patch-size", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            os.environ[variable] = str(Path(folder) / variable)
            os.makedirs(os.environ[variable])
        os.environ.setdefault("nnUNet_n_proc_DA", "0")
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Train both trainers in turn and print the ratios."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
    from nnunet_transfer.files import read_json
    from nnunet_transfer.plans import write_transfer_plans
    from nnunet_transfer.trainers import get_trainer_class
    from tests.nnunet_data import write_blob_dataset, write_splits
    from tests.sources import save_random_source

    torch.set_num_threads(1 if args.clock == "cpu" else os.cpu_count() or 1)
    edge = max(args.patch_size)
    shape = (edge + 16, edge + 16, 4 if args.configuration == "2d" else edge + 16)
    dataset = write_blob_dataset(Path(os.environ["nnUNet_raw"]), 900, cases=4, shape=shape)
    preprocessed = extract_fingerprint_in_process(dataset)
    plans = write_transfer_plans(
        dataset,
        profile=args.profile,
        configurations=[args.configuration],
        patch_size=tuple(args.patch_size),
        batch_size=args.batch_size,
    ).stem
    preprocess_in_process(dataset, plans, [args.configuration])
    write_splits(preprocessed)
    save_random_source("t1_segmentation", preprocessed / f"{plans}.json", args.configuration, labels=2)

    trainers = {}
    for name, cls in (("stock", nnUNetTrainer), ("arm", get_trainer_class("nnUNetTrainerT1Segmentation"))):
        content = read_json(preprocessed / f"{plans}.json") | {"continue_training": False}
        dataset_json = read_json(preprocessed / "dataset.json")
        trainer = cls(content, args.configuration, 0, dataset_json, torch.device(args.device))
        trainer.on_train_start()
        trainer.num_iterations_per_epoch = args.iterations
        trainer.num_val_iterations_per_epoch = max(1, args.iterations // 5)
        trainers[name] = trainer
    epochs: dict[str, list[float]] = {name: [] for name in trainers}
    iterations: dict[str, list[float]] = {name: [] for name in trainers}
    for epoch in range(args.epochs + 1):
        for name in trainers if epoch % 2 else reversed(trainers):
            whole, training = run_epoch(trainers[name], CLOCKS[args.clock])
            if epoch:  # the first epoch warms up
                epochs[name].append(whole)
                iterations[name].append(training)
    for what, seconds in (("whole epoch", epochs), ("training iterations", iterations)):
        arm, stock = (statistics.median(seconds[name]) for name in ("arm", "stock"))
        print(f"{what}: arm {arm:.3f} s, stock {stock:.3f} s, ratio {arm / stock:.3f} (goal <= {GOAL})")


def run_epoch(trainer: Any, clock: Callable[[], float]) -> tuple[float, float]:
    """Do what `nnUNetTrainer.run_training` does in one epoch; return the seconds of all and of the training part."""
    import torch

    start = clock()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    begin = clock()
    outputs = [trainer.train_step(next(trainer.dataloader_train)) for _ in range(trainer.num_iterations_per_epoch)]
    training = clock() - begin
    trainer.on_train_epoch_end(outputs)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end(
            [trainer.validation_step(next(trainer.dataloader_val)) for _ in range(trainer.num_val_iterations_per_epoch)]
        )
    trainer.on_epoch_end()
    return clock() - start, training


if __name__ == "__main__":
    main()
