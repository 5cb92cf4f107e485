"""Random scores of made-up studies, as `score_runs` gives them: no files, awkward on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.results import Arm, Run
from nnunet_transfer.comparison.targets import Target
from nnunet_transfer.evaluation.detection import detect
from nnunet_transfer.evaluation.labels import Label, LabelSet
from nnunet_transfer.evaluation.lesions import lesion_overlap
from nnunet_transfer.evaluation.protocols import LesionProtocol
from nnunet_transfer.evaluation.surface import surface_scores
from nnunet_transfer.naming import ARMS, TrainerName, parse_trainer_name

SPACING = (3.0, 1.0, 1.0)
VOXEL_ML = 0.003


def score(reference: np.ndarray, prediction: np.ndarray, protocol: LesionProtocol) -> dict[str, float]:
    """Score a pair of masks; NaN where a metric is undefined."""
    tp, fp, fn = (int(x.sum()) for x in (reference & prediction, ~reference & prediction, reference & ~prediction))
    whole = tp + fp + fn
    surface = surface_scores(reference, prediction, SPACING, tolerance_mm=1.0, diagonal_mm=30.0)
    table = lesion_overlap(reference, prediction, connectivity=protocol.connectivity)
    found = detect(table, protocol, VOXEL_ML * 1000)
    fields = ("n_ref", "n_pred", "tp", "fp", "fn", "sensitivity", "precision", "f1")
    return {
        "dice": 2 * tp / (whole + tp) if whole else np.nan,
        "iou": tp / whole if whole else np.nan,
        "volume_ref_ml": (tp + fn) * VOXEL_ML,
        "volume_pred_ml": (tp + fp) * VOXEL_ML,
        **{"voxels_tp": tp, "voxels_fp": fp, "voxels_fn": fn},
        **{"hd95_mm": surface.hd95_mm, "nsd": surface.nsd, "nsd_tolerance_mm": 1.0},
        **{f"{protocol.name}_{name}": getattr(found, name) for name in fields},
    }


def random_masks(rng: np.random.Generator, quality: float, empty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a reference, empty with probability `empty`, and a prediction that keeps `quality` of it, or fails."""
    reference, prediction = np.zeros((2, 5, 9, 8), bool)
    for mask, count in (
        (reference, 0 if rng.random() < empty else rng.integers(1, 4)),
        (prediction, rng.integers(0, 2)),
    ):
        for _ in range(count):
            start = rng.integers(0, 5, 3)
            mask[tuple(slice(s, s + n) for s, n in zip(start, rng.integers(1, 4, 3), strict=True))] = True
    fate = rng.random()
    if fate < 0.1:
        return reference, np.zeros_like(reference)
    if fate < 0.2:
        return reference, reference.copy()
    return reference, prediction & (rng.random(reference.shape) < 0.3) | reference & (
        rng.random(reference.shape) < quality
    )


def random_study(
    rng: np.random.Generator,
    protocol: LesionProtocol,
    trainers: Sequence[str],
    *,
    folds: int,
    labels: int,
    empty: float,
) -> tuple[Target, list[Run], pd.DataFrame]:
    """Return a target, a run per trainer, and one row per run, case and label.

    Subjects have one or four scans; sometimes all runs predict the same.

    Parameters
    ----------
    empty : share of references without a lesion
    """
    cases = [
        (f"sub-{s:02d}_ses-{scan}", f"sub-{s:02d}", s % folds)
        for s in range(int(rng.integers(folds, 5 * folds)))
        for scan in range(int(rng.choice([1, 1, 1, 4])))
    ]
    runs = [_run(parse_trainer_name(name)) for name in trainers]
    names = [f"label{i}" for i in range(labels)]
    rows = []
    for case, subject, fold in cases:
        for label in names:
            reference, first = random_masks(rng, 0.6, empty)
            for i, run in enumerate(runs):
                noise = (rng.random(reference.shape) < 0.04 * i) & (rng.random() < 0.7)
                head = {"arm": run.arm.name, "seed": run.seed, "fold": fold, "case": case, "subject": subject}
                rows.append(head | {"site": "", "label": label} | score(reference, first ^ noise, protocol))
    val = {k: tuple(case for case, _, fold in cases if fold == k) for k in range(folds)}
    sizes = {k: len(cases) - len(part) for k, part in val.items()}
    label_set = LabelSet(tuple(Label(name, (i + 1,)) for i, name in enumerate(names)))
    return Target("Dataset901_Made", label_set, {}, val, sizes), runs, pd.DataFrame(rows)


def _run(trainer: TrainerName) -> Run:
    without = replace(trainer, seed=None)
    arm = Arm(str(without), str(without).removeprefix("nnUNetTrainer"), without, ARMS[trainer.base])
    return Run(arm, trainer.seed, Path("/nowhere") / f"{trainer}__plans__2d", "plans", "2d")
