"""What costs more than all else in a small training, and what most tests don't look at."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from nnunetv2.training.dataloading import data_loader

from nnunet_transfer.finetuning import fitted_start
from nnunet_transfer.pretraining.self_supervised import restoration


def _as_many_threads_as_there_are(**_: object) -> AbstractContextManager[None]:
    return nullcontext()


def _no_figure(path: Path, _: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


#: module, name -> its value instead: how many batches and patches output layers are fitted to and judged on, and the figure
#: of what a network restores
LESS = {
    (fitted_start, "BATCHES"): 2,
    (fitted_start, "PATCHES"): 4,
    (fitted_start, "VALIDATION_BATCHES"): 1,
    (restoration, "draw_reconstructions"): _no_figure,
    # it looks up all libraries for each batch; OMP_NUM_THREADS has set one thread
    (data_loader, "threadpool_limits"): _as_many_threads_as_there_are,
}
WHOLE = {(module, name): getattr(module, name) for module, name in LESS}


def make_cheap(patch: pytest.MonkeyPatch) -> None:
    """Fit output layers to few patches, and draw no figure."""
    for (module, name), value in LESS.items():
        patch.setattr(module, name, value)


def make_whole(patch: pytest.MonkeyPatch) -> None:
    """Take the other back."""
    for (module, name), value in WHOLE.items():
        patch.setattr(module, name, value)
