"""Time and memory of scoring and of comparing, and their ratio to panoptica's.

Masks of the size of ATLAS R2.0 (197 x 233 x 189 voxels) with 50 and with 800 lesions, on one core. Scored are three lesion
protocols, HD95 and NSD. panoptica scores one protocol and the same surface metrics, from arrays that are in memory already.
Times are processor time, so that other work on the machine changes little; only what several processes gain is wall time.
panoptica needs an environment of its own:

    python -m venv panoptica && panoptica/bin/pip install panoptica==2.1.7
    python -m benchmarks.bench_evaluate --panoptica panoptica/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nnunet_transfer.comparison import CompareSettings, compare
from nnunet_transfer.evaluation.folders import EvaluateSettings, evaluate_folders
from nnunet_transfer.evaluation.labels import label_set_of
from nnunet_transfer.evaluation.masks import read_mask
from nnunet_transfer.evaluation.protocols import get_protocol
from nnunet_transfer.evaluation.scores import ScoringSettings, score_case
from nnunet_transfer.files import write_json
from nnunet_transfer.naming import ARMS

SHAPE = (189, 233, 197)
LESIONS = (50, 800)
PROTOCOLS = tuple(get_protocol(name) for name in ("atlas_r2", "isles22", "msseg2016"))
REPEATS = 8
MANY = 300
COMPARED_CASES, FOLDS = 655, 5
DATASET = "Dataset801_Bench"
PARTS = ("case", "folder", "compare")

PANOPTICA = """
import json, sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
from panoptica import (ConnectedComponentsInstanceApproximator, InputType, Metric, NaiveThresholdMatching,
                       Panoptica_Evaluator)
evaluator = Panoptica_Evaluator(
    expected_input=InputType.SEMANTIC, instance_approximator=ConnectedComponentsInstanceApproximator(),
    instance_matcher=NaiveThresholdMatching(matching_metric=Metric.IOU, matching_threshold=0.25),
    instance_metrics=[Metric.IOU], global_metrics=[Metric.DSC, Metric.HD95, Metric.NSD])
reference, prediction = np.load(sys.argv[1]), np.load(sys.argv[2])
times = []
for _ in range(int(sys.argv[3])):
    start = time.process_time()
    result = evaluator.evaluate(prediction, reference, voxelspacing=(1.0, 1.0, 1.0), verbose=False)["ungrouped"]
    found = [result.tp, result.global_bin_dsc, result.global_bin_hd95, result.global_bin_nsd]
    times.append(time.process_time() - start)
print(json.dumps([min(times), *map(float, found)]))
"""


def make_pair(lesions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw balls within a brain-sized ellipsoid; the prediction misses some, moves the others and invents some."""
    rng = np.random.default_rng(seed)
    reference, prediction = np.zeros((2, *SHAPE), np.uint8)
    centre, half = np.array(SHAPE) / 2, np.array(SHAPE) * 0.38
    for _ in range(lesions):
        direction = rng.normal(size=3)
        place = centre + half * direction / np.linalg.norm(direction) * rng.random() ** (1 / 3)
        radius = min(9.0, 1 + rng.gamma(1.2, 1.0)) if lesions > 100 else min(20.0, 1 + rng.gamma(1.5, 2.0))
        _ball(reference, place, radius)
        if rng.random() < 0.8:
            _ball(prediction, place + rng.normal(0, 1, 3), radius * rng.uniform(0.7, 1.2))
        if rng.random() < 0.2:
            _ball(prediction, centre + half * rng.uniform(-0.5, 0.5, 3), rng.uniform(1, 3))
    return reference, prediction


def _ball(mask: np.ndarray, place: np.ndarray, radius: float) -> None:
    low = np.maximum(np.floor(place - radius), 0).astype(int)
    high = np.minimum(np.ceil(place + radius) + 1, SHAPE).astype(int)
    axes = [(np.arange(a, b) - p) ** 2 for a, b, p in zip(low, high, place, strict=True)]
    inside = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :] <= radius**2
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] |= inside


def save(mask: np.ndarray, path: Path) -> None:
    """Write a mask with axes (z, y, x) as NIfTI."""
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask.T, np.eye(4)), path)


def best_of_each(*functions: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Return the shortest processor time of each in seconds: a busy machine only ever slows a run down.

    They take turns, so that each meets quiet and busy moments.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, own in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            own.append(time.process_time() - start)
    return [min(own) for own in times]


def best_of(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the shortest processor time of one function in seconds."""
    return best_of_each(function, repeats=repeats)[0]


class Checks:
    """Prints figures beside their limits and remembers whether one is missed."""

    def __init__(self) -> None:
        self.missed = False

    def at_most(self, text: str, value: float, limit: float) -> None:
        self._print(text, value, f"at most {limit:g}", value <= limit)

    def at_least(self, text: str, value: float, limit: float) -> None:
        self._print(text, value, f"at least {limit:g}", value >= limit)

    def _print(self, text: str, value: float, limit: str, good: bool) -> None:
        self.missed |= not good
        print(f"{text:<64}{value:8.2f}  ({limit}) {'ok' if good else 'MISSED'}", flush=True)


def bench_case(lesions: int, folder: Path, panoptica: str | None, checks: Checks) -> None:
    """Time one case."""
    pair = make_pair(lesions)
    files = [folder / f"{name}_{lesions}" for name in ("reference", "prediction")]
    for mask, file in zip(pair, files, strict=True):
        save(mask, file.with_suffix(".nii.gz"))
        np.save(file.with_suffix(".npy"), mask)
    nifti = [file.with_suffix(".nii.gz") for file in files]
    labels = label_set_of((1,))
    with_surface, without = ScoringSettings(PROTOCOLS), ScoringSettings(PROTOCOLS, surface=False)
    volumes = [read_mask(path) for path in nifti]
    row = score_case(volumes[0], volumes[1], labels, with_surface).cases[0]
    print(
        f"{lesions} lesions drawn, {row['isles22_n_ref']} components, Dice {row['dice']:.3f}, HD95 {row['hd95_mm']:.2f} mm"
    )
    # plain reading by the library, without this package's checks
    reading, scoring, whole = best_of_each(
        lambda: [_read(path) for path in nifti],
        lambda: score_case(volumes[0], volumes[1], labels, with_surface),
        lambda: score_case(*[read_mask(path) for path in nifti], labels, without),
    )
    print(f"  reading both files {reading:.3f} s, scoring {scoring:.3f} s")
    checks.at_most("  --no-surface, seconds beyond 1.5 x reading", whole - 1.5 * reading, 0.1)
    if panoptica is None:
        print("  panoptica: not measured, see --help")
        return
    arrays = [str(file.with_suffix(".npy")) for file in files]
    output = subprocess.run(
        [panoptica, "-c", PANOPTICA, *arrays, "3"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    seconds, tp, dice, hd95, _ = json.loads(next(line for line in output.splitlines() if line.startswith("[")))
    print(f"  panoptica {seconds:.3f} s: tp {tp:.0f}, Dice {dice:.3f}, HD95 {hd95:.2f} mm")
    checks.at_least("  panoptica / scoring", seconds / scoring, 5)


def _read(path: Path) -> np.ndarray:
    import nibabel as nib

    return np.asanyarray(nib.load(path).dataobj)


def bench_folder(folder: Path, checks: Checks) -> None:
    """Score many cases: memory must not grow with them, processes must help."""
    for name, mask in zip(("ref", "pred"), make_pair(50), strict=True):
        save(mask, folder / name / "case000.nii.gz")
        for i in range(1, MANY):
            os.link(folder / name / "case000.nii.gz", folder / name / f"case{i:03d}.nii.gz")
    settings = ScoringSettings(PROTOCOLS)

    def run(processes: int) -> float:
        """Time the command: its workers import what it imports, not what this script does."""
        arguments = [
            "evaluate",
            str(folder / "ref"),
            str(folder / "pred"),
            "-o",
            str(folder / "cases.csv"),
            "--labels",
            "1",
        ]
        arguments += [word for p in PROTOCOLS for word in ("--protocol", p.name)] + ["--processes", str(processes)]
        program = f"from nnunet_transfer.cli import main; main({arguments})"
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    few = folder / "few"
    for name in ("ref", "pred"):
        (few / name).mkdir(parents=True)
        for i in range(4):
            os.link(folder / name / f"case{i:03d}.nii.gz", few / name / f"case{i:03d}.nii.gz")
    wanted = EvaluateSettings(settings, labels=(1,))
    evaluate_folders(few / "ref", few / "pred", settings=wanted)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    run_here = best_of(lambda: evaluate_folders(folder / "ref", folder / "pred", settings=wanted), 1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    print(f"{MANY} cases in {run_here:.1f} s of one processor, peak memory {before + grown:.0f} MB")
    checks.at_most(f"  growth of peak memory from 4 to {MANY} cases, MB", grown, 30)
    cores = len(os.sched_getaffinity(0))
    if cores > 1:
        checks.at_least(f"  one process / two processes ({MANY} cases, {cores} cores)", run(1) / run(2), 1.4)


def bench_compare(folder: Path, checks: Checks) -> None:
    """Compare seven arms whose predictions have been scored before."""
    cases = [f"sub-{i:04d}" for i in range(COMPARED_CASES)]
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    write_json(folder / "preprocessed" / DATASET / "dataset.json", description)
    splits = [{"train": [c for c in cases if c not in cases[k::FOLDS]], "val": cases[k::FOLDS]} for k in range(FOLDS)]
    write_json(folder / "preprocessed" / DATASET / "splits_final.json", splits)
    rng = np.random.default_rng(0)
    for i, case in enumerate(cases):
        reference = np.zeros((20, 20, 20), np.uint8)
        corner = rng.integers(0, 10, 3)
        reference[tuple(slice(c, c + n) for c, n in zip(corner, rng.integers(2, 10, 3), strict=True))] = 1
        save(reference, folder / "preprocessed" / DATASET / "gt_segmentations" / f"{case}.nii.gz")
        for k, arm in enumerate(ARMS):
            kept = reference & (rng.random(reference.shape) < 0.6 + 0.02 * k + rng.normal(0, 0.05))
            model = folder / "results" / DATASET / f"{arm}__nnUNetPlans__3d_fullres"
            save(kept, model / f"fold_{i % FOLDS}" / "validation" / f"{case}.nii.gz")

    def run() -> None:
        compare([801], out=folder / "out", settings=CompareSettings(protocols=["atlas_r2"]))

    first = best_of(run, 1)
    again = best_of(run, 1)
    print(f"{len(ARMS)} arms x {COMPARED_CASES} cases, 10 000 draws: {first:.1f} s, and from known scores:")
    checks.at_most("  compare again, seconds", again, 60)


def main() -> int:
    """Run all parts and print the figures; exit status 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panoptica", metavar="PYTHON", help="interpreter of an environment with panoptica")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="(default: all)")
    args = parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cores = os.sched_getaffinity(0)
        if "case" in args.parts:
            os.sched_setaffinity(0, {min(cores)})
            for lesions in LESIONS:
                bench_case(lesions, folder, args.panoptica, checks)
            os.sched_setaffinity(0, cores)
        if "folder" in args.parts:
            bench_folder(folder, checks)
        if "compare" in args.parts:
            bench_compare(folder / "study", checks)
    return int(checks.missed)


if __name__ == "__main__":
    sys.exit(main())
