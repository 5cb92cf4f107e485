"""Time and memory of adding a source and of loading it into a network.

A ResEnc-L network in 3D (100 million parameters, 400 MB). Each stage runs in a process of its own, so that its peak of
resident memory is its own; the interpreter with its imports is subtracted. The file is read from the disk, not from
the system's cache. Prints ratios:

  python benchmarks/bench_loading.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

NAME = "bench"
REPEATS = 3


def _peak_bytes() -> int:
    # VmHWM, unlike getrusage's ru_maxrss, does not start from the parent's peak
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _forget(file: Path) -> None:
    """Drop the file from the system's cache, so that reading it means reading the disk."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _network() -> tuple[dict[str, Any], nn.Module]:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    from nnunet_transfer.plans import PROFILES

    a = PROFILES["resenc_l"].architecture(3)
    return a, get_network_from_plans(
        a["network_class_name"], a["arch_kwargs"], a["_kw_requires_import"], 1, 2, allow_init=False
    )


def make(file: Path) -> dict[str, float]:
    """Write the checkpoint file."""
    import torch

    architecture, network = _network()
    plans = {"dataset_name": "Dataset001_Bench", "configurations": {"3d_fullres": {"architecture": architecture}}}
    arguments = {"plans": plans, "configuration": "3d_fullres", "dataset_json": {"channel_names": {"0": "T1"}}}
    torch.save({"network_weights": network.state_dict(), "init_args": arguments}, file)
    return {}


def read(file: Path) -> dict[str, float]:
    """Read and hash the file: the least that adding it costs."""
    from nnunet_transfer.files import sha256_of

    _forget(file)
    start, processor = time.perf_counter(), time.process_time()
    sha256_of(file)
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}


def add(file: Path) -> dict[str, float]:
    """Add the file to the registry."""
    from nnunet_transfer.checkpoints import add_source

    _forget(file)
    before, start, processor = _peak_bytes(), time.perf_counter(), time.process_time()
    add_source(file, NAME, task="segmentation", domain="t1", overwrite=True)
    return {
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - processor,
        "bytes": _peak_bytes() - before,
    }


def load(file: Path) -> dict[str, float]:
    """Check the source and put it into a network that exists already."""
    from nnunet_transfer.adaptation import transfer_weights
    from nnunet_transfer.sources import Source, load_source

    before = _peak_bytes()
    _, network = _network()
    source = load_source(NAME)
    hashing = []
    verify = Source.verify

    def timed(self: Source) -> None:
        begin = time.perf_counter()
        verify(self)
        hashing.append(time.perf_counter() - begin)

    Source.verify = timed  # type: ignore[method-assign]
    start = time.perf_counter()
    report = transfer_weights(network, source)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "without_hashing": seconds - sum(hashing),
        "bytes": _peak_bytes() - before,
        "coverage": report.coverage["encoder"],
        "weights": source.weights.stat().st_size,
    }


STAGES = {"make": make, "read": read, "add": add, "load": load}


def main() -> int:
    """Run all stages and print the ratios; exit status 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(STAGES[args.stage](args.file)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint_final.pth"
        environment = {**os.environ, "nnUNet_sources": str(Path(folder) / "sources")}

        def run(stage: str) -> dict[str, float]:
            command = [sys.executable, __file__, "--stage", stage, "--file", str(file)]
            output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            return json.loads(output.splitlines()[-1])

        run("make")
        # a busy machine only ever slows a stage down: the best of some runs, in turn, is the stage's own cost
        runs = [{stage: run(stage) for stage in ("read", "add", "load")} for _ in range(REPEATS)]
        results = {stage: {k: min(r[stage][k] for r in runs) for k in runs[0][stage]} for stage in runs[0]}
    size = results["load"]["weights"]
    checks = (
        ("sources add / read and hash", results["add"]["seconds"] / results["read"]["seconds"], 2.5),
        # what other programs on the machine do changes the first number, hardly this one
        ("the same in processor time", results["add"]["processor"] / results["read"]["processor"], 2.5),
        ("sources add, peak memory / weights", results["add"]["bytes"] / size, 2.2),
        ("load and adapt, seconds", results["load"]["seconds"], 3.0),
        ("load and adapt after hashing, seconds", results["load"]["without_hashing"], 1.0),
        ("load and adapt with network, peak memory / weights", results["load"]["bytes"] / size, 2.2),
    )
    print(f"weights {size / 1e6:.0f} MB, read and hashed in {results['read']['seconds']:.2f} s")
    for text, value, limit in checks:
        print(f"{text:<52}{value:6.2f}  (limit {limit}) {'ok' if value <= limit else 'MISSED'}")
    return int(any(value > limit for _, value, limit in checks))


if __name__ == "__main__":
    raise SystemExit(main())
