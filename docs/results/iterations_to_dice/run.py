"""Measure Dice against training iterations, from scratch and from a source of T1 segmentation, in 2D on one core.

    python run.py WORK OUT

WORK holds the nnUNet_raw of `../real_input/prepare.py`; everything else is written to OUT. A run that was stopped goes on
with the next training. Each curve is that of one training under nnU-Net's falling learning rate, as a user sees it.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_transfer.demo.runner import Step, run_steps
from nnunet_transfer.files import atomic_path, read_json, write_json
from nnunet_transfer.naming import DEFAULT_RECIPE, RECIPES, TrainerName

sys.path.append(str(Path(__file__).resolve().parents[1]))

from real_input.run import CONFIGURATION, PLANS, nnunet_environment, prepare, train

if TYPE_CHECKING:
    from nnunet_transfer.training.base import NamedTrainer

SOURCE, SOURCE_DATASET = "t1_segmentation", 312
TARGETS = {321: "semi-synthetic stroke", 323: "anatomy"}
ARMS = ("nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation")
CASES = (3, 8)
#: of 11 subjects, 8 for training: seed k trains on fold k, so that the seeds' spread is also that of the subjects
FOLDS = 4
PATCH, BATCH_SIZE = (64, 64), 8
#: the network halves its input three times
MULTIPLE = 8
ITERATIONS_PER_EPOCH = 50
#: after these epochs the validation cases are predicted
EPOCHS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40)
#: a scratch that ends below this Dice has learnt nothing that could be reached sooner
LEARNT = 0.01
COLOURS = {
    "nnUNetTrainerScratch": ("from scratch", "0.35"),
    "nnUNetTrainerT1Segmentation": ("T1 segmentation", "#0072B2"),
}

Curve = dict[int, float]


def prepare_target(dataset: int) -> None:
    """Prepare a target and give it folds with 8 training cases."""
    from nnunet_transfer.paths import dataset_name, nnunet_preprocessed

    prepare(dataset, PATCH, BATCH_SIZE)
    splits = nnunet_preprocessed() / dataset_name(dataset) / "splits_final.json"
    cases = sorted(case for part in read_json(splits)[0].values() for case in part)
    folds = [cases[fold::FOLDS] for fold in range(FOLDS)]
    write_json(splits, [{"train": sorted({*cases} - {*fold}), "val": fold} for fold in folds])


def measure_curve(dataset: int, trainer: str, fold: int, out: Path, validate: bool) -> None:
    """Train without checkpoints; write the validation cases' mean Dice at all points of the curve.

    Parameters
    ----------
    validate : also run nnU-Net's own validation at the end, with mirrored sliding windows, to compare with
    """
    import torch

    from nnunet_transfer._nnunet import run_training_in_process
    from nnunet_transfer.trainers import get_trainer_class

    base = get_trainer_class(trainer)
    curve: Curve = {}

    class Measured(base):  # type: ignore[misc, valid-type]
        def on_train_start(self) -> None:
            self.disable_checkpointing = True
            self.num_val_iterations_per_epoch = 1
            super().on_train_start()
            self.logger.plot_progress_png = self.logger.plot_now = lambda *_: None
            curve[0] = validation_dice(self)

        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            if self.current_epoch in EPOCHS:
                curve[self.current_epoch * ITERATIONS_PER_EPOCH] = validation_dice(self)

        def perform_actual_validation(self, save_probabilities: bool = False) -> None:
            if validate:
                super().perform_actual_validation(save_probabilities)

    # nnU-Net names the folder after the class
    Measured.__name__ = base.__name__
    trained = run_training_in_process(dataset, CONFIGURATION, fold, Measured, PLANS, device=torch.device("cpu"))
    result: dict[str, Any] = {"curve": curve}
    if validate:
        summary = read_json(Path(trained.output_folder) / "validation" / "summary.json")
        result["validation"] = summary["foreground_mean"]["Dice"]
    write_json(out, result)


def validation_dice(trainer: NamedTrainer) -> float:
    """Return the mean over labels of the mean Dice over validation cases, each predicted as whole slices.

    A label that is neither in the reference nor in the prediction does not count, as in nnU-Net.
    """
    import torch

    labels = trainer.label_manager.foreground_labels
    cases = trainer.do_split()[1]
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, cases)
    scores = []
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    for case in cases:
        data, reference, _, _ = dataset.load_case(case)
        slices = np.moveaxis(np.asarray(data[:]), 0, 1)
        height, width = slices.shape[2:]
        padding = ((0, 0), (0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE))
        with torch.inference_mode():
            predicted = trainer.network(torch.from_numpy(np.pad(slices, padding))).argmax(1).numpy()
        scores.append(dice_per_label(predicted[:, :height, :width], np.asarray(reference[:])[0], labels))
    trainer.set_deep_supervision_enabled(True)
    return float(np.nanmean(np.nanmean(scores, axis=0)))


def dice_per_label(predicted: np.ndarray, reference: np.ndarray, labels: list[int]) -> list[float]:
    """Return the Dice of each label, NaN for one that is in neither array."""
    masks = [(predicted == label, reference == label) for label in labels]
    return [float(2 * (p & r).sum() / (p.sum() + r.sum())) if p.any() or r.any() else float("nan") for p, r in masks]


def curve_name(dataset: int, arm: str, recipe: str, cases: int, seed: int) -> str:
    """Return the name of a curve's step and file."""
    return f"{dataset}-{arm}-{recipe}-{cases}cases-seed{seed}"


def study_steps(out: Path, pretrain: tuple[int, int], seeds: int, recipe: str) -> list[Step]:
    """Return all steps; seed after seed, so that a stopped run has whole seeds."""
    plan = {"patch": PATCH, "batch_size": BATCH_SIZE}
    pretrainer = str(TrainerName("nnUNetPretrainerSegmentation", epochs=pretrain[0], iterations=pretrain[1], seed=0))
    source = {"dataset": SOURCE_DATASET, "trainer": pretrainer, "fold": 0, "source_name": SOURCE}
    steps = [
        Step("prepare-source", prepare, {"dataset": SOURCE_DATASET, **plan}),
        Step("pretrain", train, source, ("prepare-source",), weight=5),
        *(Step(f"prepare-{target}", prepare_target, {"dataset": target}) for target in TARGETS),
    ]
    for seed in range(seeds):
        for dataset in TARGETS:
            for cases in CASES:
                for arm in ARMS:
                    budget = {"epochs": EPOCHS[-1], "iterations": ITERATIONS_PER_EPOCH}
                    name = TrainerName(arm, recipe, cases=cases, seed=seed, **budget)
                    step = curve_name(dataset, arm, recipe, cases, seed)
                    arguments = {
                        "dataset": dataset,
                        "trainer": str(name),
                        "fold": seed,
                        "out": out / "curves" / f"{step}.json",
                        "validate": seed == 0,
                    }
                    needs = ("pretrain", f"prepare-{dataset}")
                    steps.append(Step(step, measure_curve, arguments, needs))
    return steps


def read_curve(out: Path, dataset: int, arm: str, recipe: str, cases: int, seed: int) -> Curve:
    """Return Dice by iterations."""
    content = read_json(out / "curves" / f"{curve_name(dataset, arm, recipe, cases, seed)}.json")
    return {int(iterations): dice for iterations, dice in content["curve"].items()}


def first_reaching(curve: Curve, dice: float) -> float:
    """Return the first measured number of iterations with at least this Dice, infinity if there is none."""
    return min((iterations for iterations, value in curve.items() if value >= dice), default=float("inf"))


def write_table(out: Path, seeds: int, recipe: str) -> None:
    """Write one row per target, number of cases and seed; print each setting's median and range of the ratio."""
    rows = []
    for dataset, title in TARGETS.items():
        for cases in CASES:
            ratios = []
            for seed in range(seeds):
                scratch, transferred = (read_curve(out, dataset, arm, recipe, cases, seed) for arm in ARMS)
                last = max(scratch)
                needed = first_reaching(transferred, scratch[last])
                own = first_reaching(scratch, scratch[last])
                ratio = needed / last if scratch[last] >= LEARNT else float("nan")
                ratios += [ratio] if ratio == ratio else []
                rows.append([title, cases, seed, scratch[last], transferred[last], own, needed, ratio])
            spread = (
                f"median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}" if ratios else "none"
            )
            print(f"{title}, {cases} cases: ratio of iterations {spread} ({len(ratios)} of {seeds} seeds)")
    names = (
        "target",
        "cases",
        "seed",
        "scratch_dice",
        "transferred_dice",
        "scratch_first",
        "transferred_first",
        "ratio",
    )
    with atomic_path(out / f"iterations_to_dice_{recipe}.csv") as temporary, open(temporary, "w", newline="") as stream:
        csv.writer(stream).writerows([names, *rows])


def draw(out: Path, seeds: int, recipe: str) -> None:
    """Draw all curves: one panel per target and number of cases, thin lines for seeds, thick ones for their median."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(TARGETS), len(CASES), figsize=(8, 6), sharex=True, sharey="row", squeeze=False)
    for row, (dataset, title) in zip(axes, TARGETS.items(), strict=True):
        row[0].set_ylabel(f"Dice, {title}")
        for panel, cases in zip(row, CASES, strict=True):
            panel.set_title(f"{cases} training cases", fontsize="medium")
            for arm, (label, colour) in COLOURS.items():
                curves = [read_curve(out, dataset, arm, recipe, cases, seed) for seed in range(seeds)]
                points = sorted(curves[0])
                for curve in curves:
                    panel.plot(points, [curve[i] for i in points], color=colour, linewidth=0.7, alpha=0.6)
                median = [statistics.median(curve[i] for curve in curves) for i in points]
                panel.plot(points, median, color=colour, linewidth=2, marker="o", markersize=3, label=label)
            panel.set_xscale("symlog", linthresh=ITERATIONS_PER_EPOCH)
            ticks = (0, ITERATIONS_PER_EPOCH, 100, 200, 500, points[-1])
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            panel.minorticks_off()
            panel.spines[["top", "right"]].set_visible(False)
    for panel in axes[-1]:
        panel.set_xlabel("training iterations")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(out / f"curves_{recipe}.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--pretrain", type=int, nargs=2, default=(40, 150), metavar=("EPOCHS", "ITERATIONS"))
    parser.add_argument("--seeds", type=int, default=3, help=f"at most {FOLDS}")
    parser.add_argument("--recipe", choices=list(RECIPES), default=DEFAULT_RECIPE, help="of both arms")
    args = parser.parse_args()
    out = args.out.resolve()
    environment = nnunet_environment(out) | {"nnUNet_raw": str(args.work.resolve() / "nnUNet_raw")}
    (out / "curves").mkdir(parents=True, exist_ok=True)
    steps = study_steps(out, tuple(args.pretrain), args.seeds, args.recipe)
    run_steps(steps, out / "steps", jobs=args.jobs, environment=environment, description="curves")
    write_table(out, args.seeds, args.recipe)
    draw(out, args.seeds, args.recipe)


if __name__ == "__main__":
    main()
