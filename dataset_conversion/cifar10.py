"""CIFAR-10."""

from __future__ import annotations

from collections.abc import Iterable

from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription, Request
from nnunet_transfer.dataset_conversion import _cifar10
from nnunet_transfer.dataset_conversion._natural import (
    nothing_found,
)


def _find_cifar10(request: Request) -> Iterable[Case]:
    cases = list(_cifar10.find(request.root))
    if not cases:
        raise nothing_found(request, "cifar-10-batches-py/data_batch_1 or a .npz file with x_train and y_train")
    return cases


CIFAR10 = DatasetDescription(
    name="cifar10",
    title="CIFAR-10: pictures of 32x32 pixels in 10 classes (50 000 for training, 10 000 for testing)",
    folder_name="CIFAR10",
    licence="none stated; free for research",
    citation="Krizhevsky A, Learning multiple layers of features from tiny images, technical report, Toronto 2009",
    request="https://www.cs.toronto.edu/~kriz/cifar.html",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_cifar10,
    pictures=True,
)
