"""Record what other tools find in awkward masks, in `oracles.json` beside this file.

The tools need packages that this one doesn't, hence an environment of its own. Two of them are packages, the others are
checked out beside each other, each into a folder `owner/name`; the commits of the record stand in `oracles.json`:

  python -m venv oracles
  oracles/bin/pip install monai scikit-learn joblib scipy SimpleITK nibabel pandas connected-components-3d
  for name in google-deepmind/surface-distance hjkuijf/wmhchallenge npnl/atlas2_grand_challenge ezequieldlrosa/isles22 \\
      Shifts-Project/shifts rachitsaluja/BraTS-2023-Metrics; do git clone https://github.com/$name checkouts/$name; done
  oracles/bin/python tests/recorded/record_oracles.py checkouts
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import SimpleITK as sitk
from awkward_masks import N_PAIRS, awkward_pair

OUT = Path(__file__).with_name("oracles.json")
TOLERANCE_MM = 1.0
#: decimals that are recorded
DECIMALS = 6
PACKAGES = ("monai", "torch", "numpy", "scipy", "SimpleITK", "connected-components-3d")
CHECKOUTS = (
    "google-deepmind/surface-distance",
    "hjkuijf/wmhchallenge",
    "npnl/atlas2_grand_challenge",
    "ezequieldlrosa/isles22",
    "Shifts-Project/shifts",
    "rachitsaluja/BraTS-2023-Metrics",
)
Scorer = Callable[[np.ndarray, np.ndarray, tuple[float, ...]], list[float]]


def load(path: Path) -> ModuleType:
    """Import a file."""
    spec = importlib.util.spec_from_file_location(path.stem + "_recorded", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flattened(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]
) -> tuple[Any, Any, list[float]]:
    """Return lesions as booleans, without axes of length 1: these tools know 2D images by their number of axes."""
    kept = [axis for axis, n in enumerate(reference.shape) if n > 1]
    return (reference == 1).squeeze(), (prediction == 1).squeeze(), [spacing[axis] for axis in kept]


def monai() -> Scorer:
    """Dice, IoU, HD95 and NSD of voxels, by MONAI."""
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric

    def score(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
        a, b, steps = flattened(reference, prediction, spacing)
        theirs = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (b, a)]
        metrics = [
            (DiceMetric(include_background=True, ignore_empty=False), {}),
            (MeanIoU(include_background=True, ignore_empty=False), {}),
            (HausdorffDistanceMetric(include_background=True, percentile=95), {"spacing": steps}),
            (SurfaceDiceMetric(class_thresholds=[TOLERANCE_MM], include_background=True), {"spacing": steps}),
        ]
        return [float(metric(*theirs, **options)) for metric, options in metrics]

    return score


def surface_distance(folder: Path) -> Scorer:
    """Hausdorff distances at 80, 95 and 100 % of the surface's area and surface Dice, by surface-distance."""
    sys.path.insert(0, str(folder))
    import surface_distance as package

    def score(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
        a, b, steps = flattened(reference, prediction, spacing)
        if not a.any() or not b.any():
            return [float("nan")] * 4
        found = package.compute_surface_distances(a, b, steps)
        robust = [package.compute_robust_hausdorff(found, percent) for percent in (80, 95, 100)]
        return [*robust, package.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)]

    return score


def wmh2017(folder: Path) -> Scorer:
    """Dice, volume difference in %, lesion recall and F1, by the challenge's evaluation."""
    evaluation = load(folder / "evaluation.py")

    def score(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
        with tempfile.TemporaryDirectory() as name:
            files = [str(Path(name) / f"{part}.nii.gz") for part in ("reference", "prediction")]
            for mask, file in zip((reference, prediction), files, strict=True):
                # as floats: of integer masks, SimpleITK from 2.5 on makes every voxel 0 by the challenge's threshold
                image = sitk.GetImageFromArray(mask.astype(np.float32))
                image.SetSpacing(spacing[::-1])
                sitk.WriteImage(image, file)
            theirs = evaluation.getImages(*files)
        volumes = [float(sitk.GetArrayFromImage(image).sum()) for image in theirs]
        dice = evaluation.getDSC(*theirs) if sum(volumes) else float("nan")
        change = evaluation.getAVD(*theirs) if volumes[0] else float("nan")
        return [dice, change, *evaluation.getLesionDetection(*theirs)]

    return score


def atlas_r2(folder: Path) -> Scorer:
    """Lesion F1 and difference of lesion counts, by the challenge's evaluation."""
    scoring = load(folder / "isles" / "scoring.py")

    def score(reference: np.ndarray, prediction: np.ndarray, _: tuple[float, ...]) -> list[float]:
        masks = [(mask == 1).astype(np.int64)[None] for mask in (reference, prediction)]
        return [scoring.lesion_f1_score(*masks), scoring.simple_lesion_count_difference(masks[0][0], masks[1][0])]

    return score


def isles22(folder: Path) -> Scorer:
    """Lesion F1, difference of lesion counts and Dice, by the challenge's evaluation."""
    utils = load(folder / "utils" / "eval_utils.py")

    def score(reference: np.ndarray, prediction: np.ndarray, _: tuple[float, ...]) -> list[float]:
        masks = [mask == 1 for mask in (reference, prediction)]
        names = ("compute_lesion_f1_score", "compute_absolute_lesion_difference", "compute_dice")
        return [float(getattr(utils, name)(*masks)) for name in names]

    return score


def shifts_ms(folder: Path) -> Scorer:
    """Lesion F1 at an IoU of 0.25, by the challenge's evaluation."""
    metrics = load(folder / "mswml" / "metrics.py")

    def score(reference: np.ndarray, prediction: np.ndarray, _: tuple[float, ...]) -> list[float]:
        return [metrics.lesion_f1_score(*((mask == 1).astype(int) for mask in (reference, prediction)))]

    return score


def brats2023(folder: Path) -> Scorer:
    """Numbers of true positive, false positive and false negative lesions of the METS task, by the challenge's evaluation.

    Its function for one label is run; the one around it, of which the last step is repeated here, needs an older pandas.
    """
    import nibabel as nib

    # a name that NumPy has removed since
    np.Inf = np.inf
    # it brings its own surface_distance
    for name in [name for name in sys.modules if name.partition(".")[0] == "surface_distance"]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    metrics = load(folder / "metrics.py")
    dilation, smallest = 1, 2

    def score(reference: np.ndarray, prediction: np.ndarray, _: tuple[float, ...]) -> list[float]:
        with tempfile.TemporaryDirectory() as name:
            files = [str(Path(name) / f"{part}.nii") for part in ("prediction", "reference")]
            for mask, file in zip((prediction, reference), files, strict=True):
                # it takes every voxel for 1 mm³
                nib.save(nib.Nifti1Image((mask == 1).astype(np.uint8).T, np.eye(4)), file)
            _, missed, false, found, pairs, *_rest = metrics.get_LesionWiseScores(*files, "WT", dilation)
        small = {lesion for _, lesion, volume, *_scores in pairs if volume <= smallest}
        return [len(set(found) - small), len(false), len(set(missed) - small)]

    return score


def commit(folder: Path) -> str:
    """Return the commit of a checkout."""
    return subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def rounded(value: float) -> float | int | str | None:
    """Return a number as JSON has it: None for NaN."""
    if np.isnan(value):
        return None
    if np.isinf(value):
        return "inf"
    return int(value) if float(value).is_integer() else round(float(value), DECIMALS)


def main() -> None:
    """Record all tools."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path)
    folder = parser.parse_args().checkouts
    warnings.simplefilter("ignore")
    deepmind, wmh, atlas, isles, shifts, brats = (folder / name for name in CHECKOUTS)
    scorers = {
        "monai": monai(),
        "surface_distance": surface_distance(deepmind),
        "wmh2017": wmh2017(wmh),
        "atlas_r2": atlas_r2(atlas),
        "isles22": isles22(isles),
        "shifts_ms": shifts_ms(shifts),
        "brats2023": brats2023(brats),
    }
    content = {
        "pairs": N_PAIRS,
        "tolerance_mm": TOLERANCE_MM,
        "versions": {name: version(name) for name in PACKAGES},
        "commits": {name: commit(folder / name) for name in CHECKOUTS},
        "scores": {
            name: [[rounded(value) for value in score(*awkward_pair(seed))] for seed in range(N_PAIRS)]
            for name, score in scorers.items()
        },
    }
    OUT.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
