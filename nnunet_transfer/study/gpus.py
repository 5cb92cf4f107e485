"""One GPU per training on a machine with several."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

from nnunet_transfer.gpus import VISIBLE, visible_gpus
from nnunet_transfer.locks import locked_at_once
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study

_WAIT_SECONDS = 5.0


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
                    os.environ[VISIBLE] = gpu
                    yield
                    return
        time.sleep(_WAIT_SECONDS)
