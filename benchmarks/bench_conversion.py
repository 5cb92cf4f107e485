"""Speed and memory of conversion, next to gzip, copying and the way of nnU-Net's own scripts.

Trees of ATLAS R2.0's size (197 x 233 x 189 voxels), one process. Limits: conversion that rewrites every file runs at 0.8
or more of the rate at which one gzip stream decompresses and recompresses the same files; a process takes at most six
images' memory; reading back what was written adds at most 15 % of processor time. nnU-Net's scripts read and write with
SimpleITK, without checks, manifest or folds.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image
from scipy import ndimage

from nnunet_transfer.conversion import case_volumes, job
from nnunet_transfer.conversion.catalogue import get_description
from nnunet_transfer.conversion.engine import convert
from nnunet_transfer.conversion.plan import Options, plan_conversion
from nnunet_transfer.conversion.spatial_images import COMPRESSION_LEVEL

SHAPE = (197, 233, 189)
CASES = 3
REPEATS = 3
PICTURES = 300
PICTURE_SIZE = (500, 375)
RATE_LIMIT, MEMORY_LIMIT, PICTURES_LIMIT, READ_BACK_LIMIT = 0.8, 6.0, 100.0, 0.15
#: what reads back
READ_BACK = ((case_volumes, ("header_fault", "stored_fault", "content_fault", "voxel_fault")), (job, ("crc32_of",)))

MEMORY = """
import sys
from pathlib import Path
from nnunet_transfer.conversion.catalogue import get_description
from nnunet_transfer.conversion.engine import convert
from nnunet_transfer.conversion.plan import Options, plan_conversion
plan = plan_conversion(get_description("atlas_r2"), Path(sys.argv[1]), 3, Options(reorient=sys.argv[2], limit=1))
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
before = status("VmRSS")
convert(plan)
print(status("VmHWM") - before)
"""


def make_tree(root: Path, dtype: type) -> list[Path]:
    """Write cases with brain-sized noise and a lesion; return their files."""
    files = []
    index = np.indices(SHAPE, np.float32) - np.array(SHAPE, np.float32).reshape(3, 1, 1, 1) / 2
    brain = (index**2 / (np.array(SHAPE).reshape(3, 1, 1, 1) * 0.4) ** 2).sum(axis=0) < 1
    for i in range(CASES):
        rng = np.random.default_rng(i)
        texture = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE).astype(np.float32), 1.5) * 40
        image = np.where(brain, 60 + texture + rng.normal(0, 2, SHAPE), 0).clip(0)
        lesion = (np.linalg.norm(index - np.array([20, 10 * i, 5]).reshape(3, 1, 1, 1), axis=0) < 12).astype(np.uint8)
        folder = root / f"Training/R{i:03d}/sub-r{i}/ses-1/anat"
        folder.mkdir(parents=True)
        stem = folder / f"sub-r{i}_ses-1_space-MNI152NLin2009aSym"
        image = np.rint(image) if np.issubdtype(dtype, np.integer) else image
        for data, name in ((image.astype(dtype), "T1w"), (lesion, "label-L_desc-T1lesion_mask")):
            files.append(Path(f"{stem}_{name}.nii.gz"))
            nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1, 1, 1])), files[-1])
    return files


def best(work: Callable[[Path], object]) -> float:
    """Return the shortest of several times in seconds; `work` gets an empty folder."""
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            work(Path(folder))
            times.append(time.perf_counter() - start)
    return min(times)


def recompress(files: list[Path], level: int) -> Callable[[Path], None]:
    """Decompress and recompress each file in one stream."""

    def work(out: Path) -> None:
        for path in files:
            stream = zlib.compressobj(level, wbits=31)
            plain = gzip.decompress(path.read_bytes())
            (out / path.name).write_bytes(stream.compress(plain) + stream.flush())

    return work


def copy(files: list[Path]) -> Callable[[Path], None]:
    """Copy each file."""
    return lambda out: [shutil.copyfile(path, out / path.name) for path in files] and None


def simpleitk(files: list[Path]) -> Callable[[Path], None]:
    """Read and write each file as nnU-Net's scripts do, the label as a mask."""

    def work(out: Path) -> None:
        for path in files:
            image = sitk.ReadImage(str(path))
            if "mask" in path.name:
                label = sitk.GetImageFromArray((sitk.GetArrayFromImage(image) > 0).astype(np.uint8))
                label.CopyInformation(image)
                image = label
            sitk.WriteImage(image, str(out / path.name))

    return work


def ours(name: str, root: Path, **options: str) -> Callable[[Path], None]:
    """Convert the tree."""

    def work(out: Path) -> None:
        os.environ["nnUNet_raw"] = str(out)
        convert(plan_conversion(get_description(name), root, 3, Options(**options)))  # type: ignore[arg-type]

    return work


def read_back(root: Path, reorient: str) -> float:
    """Return how much processor time reading back adds to conversion: 0.1 is a tenth."""
    spent = 0.0

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            nonlocal spent
            start = time.process_time()
            try:
                return function(*args)
            finally:
                spent += time.process_time() - start

        return call

    checks, rests = [], []
    with ExitStack() as patches:
        for module, names in READ_BACK:
            for name in names:
                patches.enter_context(mock.patch.object(module, name, timed(getattr(module, name))))
        for _ in range(REPEATS):
            spent = 0.0
            with tempfile.TemporaryDirectory() as out:
                start = time.process_time()
                ours("atlas_r2", root, reorient=reorient)(Path(out))
                rests.append(time.process_time() - start - spent)
            checks.append(spent)
    return min(checks) / min(rests)


def memory(root: Path, reorient: str) -> float:
    """Return the growth of a process that converts one case, in bytes (read from Linux's /proc)."""
    with tempfile.TemporaryDirectory() as raw:
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, str(root), reorient],
            env=os.environ | {"nnUNet_raw": raw},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(run.stdout) * 1024


def bench_volumes() -> bool:
    """Measure trees of floating-point and of integer images; return whether the limits are kept."""
    kept = True
    for dtype in (np.float32, np.int16):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            files = make_tree(root, dtype)
            stored = sum(path.stat().st_size for path in files) / 1e6
            times = {
                f"gzip level {COMPRESSION_LEVEL}": best(recompress(files, COMPRESSION_LEVEL)),
                "gzip level 6": best(recompress(files, 6)),
                "SimpleITK": best(simpleitk(files)),
                "copy only": best(copy(files)),
                "convert, images copied": best(ours("atlas_r2", root)),
                "convert --reorient": best(ours("atlas_r2", root, reorient="RAS")),
            }
            image = np.prod(SHAPE) * np.dtype(dtype).itemsize
            growth = max(memory(root, reorient) for reorient in ("", "RAS")) / image
            added = {name: read_back(root, axes) for name, axes in (("copied", ""), ("rewritten", "RAS"))}
        print(f"{CASES} cases, {np.dtype(dtype)}, {stored:.0f} MB")
        for name, seconds in times.items():
            print(f"  {name:<24}{seconds / CASES:7.3f} s per case {stored / seconds:8.1f} MB/s stored")
        ratio = times[f"gzip level {COMPRESSION_LEVEL}"] / times["convert --reorient"]
        print(f"  rate of conversion / rate of gzip: {ratio:.2f} (limit {RATE_LIMIT})")
        print(f"  time of SimpleITK / time of conversion: {times['SimpleITK'] / times['convert, images copied']:.2f}")
        print(f"  memory / image: {growth:.1f} (limit {MEMORY_LIMIT:.0f})")
        for name, share in added.items():
            print(f"  reading back, images {name}: {share:+.1%} of processor time (limit {READ_BACK_LIMIT:.0%})")
        kept &= max(added.values()) <= READ_BACK_LIMIT
        kept &= ratio >= RATE_LIMIT and growth <= MEMORY_LIMIT
    return kept


def bench_pictures() -> bool:
    """Measure photo-sized JPEGs in class folders; return whether the limit is kept."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rng = np.random.default_rng(0)
        for i in range(PICTURES):
            path = root / f"train/n0144{i % 5}/{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = ndimage.gaussian_filter(rng.normal(0, 1, (*PICTURE_SIZE[::-1], 3)), (2, 2, 0))
            Image.fromarray(np.uint8(128 + 300 * noise.clip(-0.4, 0.4))).save(path, quality=90)
        rate = PICTURES / best(ours("imagefolder", root))
    print(f"imagefolder: {rate:.0f} images/s on one core (limit {PICTURES_LIMIT:.0f})")
    return rate >= PICTURES_LIMIT


def main() -> int:
    """Print all measurements; return 1 if a limit is exceeded."""
    kept = bench_volumes()
    kept &= bench_pictures()
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
