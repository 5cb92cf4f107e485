"""One GPU per training on a machine with several."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

from nnunet_transfer.locks import locked_at_once
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study

_VISIBLE = "CUDA_VISIBLE_DEVICES"
#: an index, or a UUID
_GPU = re.compile(r"\d+|(GPU|MIG)-.+")
_WAIT_SECONDS = 5.0


def visible_gpus() -> list[str]:
    """Return the available GPUs: those in `CUDA_VISIBLE_DEVICES`, or all GPUs of this machine."""
    if (given := os.environ.get(_VISIBLE)) is not None:
        # as in CUDA, the first entry that names no GPU, such as -1, hides itself and all that follow
        return list(itertools.takewhile(_GPU.fullmatch, map(str.strip, given.split(","))))
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


@contextlib.contextmanager
def one_gpu(study: Study) -> Iterator[None]:
    """Restrict this process to one GPU that no other step of the study uses.

    Must be entered before torch initialises CUDA.
    """
    if study.device != "cuda" or len(gpus := visible_gpus()) < 2:
        yield
        return
    # a cluster numbers the GPUs separately for each job: only steps in the same job share them
    place = "-".join(filter(None, (socket.gethostname(), os.environ.get("SLURM_JOB_ID"))))
    while True:
        for gpu in gpus:
            name = f"gpu-{place}-{gpu.replace('/', '_')}.lock"
            with locked_at_once(study.folder / state.LOCKS / name) as lock:
                if lock:
                    os.environ[_VISIBLE] = gpu
                    yield
                    return
        time.sleep(_WAIT_SECONDS)
