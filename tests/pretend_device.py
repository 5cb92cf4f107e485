"""A device to test with where there is none: tensors that say they are elsewhere and compute on the CPU.

PyTorch can't imitate a GPU's arithmetic on a CPU, but it lets a test see every operation. Tensors of the class below
claim the device `meta`, which needs no hardware; each operation on them runs on their hidden content. As on a GPU, an
operation that mixes them with tensors of the CPU is refused, unless these are numbers or short lists of indices. The
mode also counts what would wait for a GPU: reading a number, and results whose size depends on the data.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
#: operations whose result must be known to the CPU before it can go on
_WAITING = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal", "is_nonzero"}


class Elsewhere(torch.Tensor):
    """A tensor that claims to be on `DEVICE`."""

    content: torch.Tensor

    @staticmethod
    def __new__(cls, content: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            content.shape,
            strides=content.stride(),
            storage_offset=content.storage_offset(),
            dtype=content.dtype,
            device=DEVICE,
        )
        made.content = content
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of `Watched`")


class Watched(TorchDispatchMode):
    """Run operations on `Elsewhere` and refuse what a GPU would refuse or what would bring patches to the CPU.

    Parameters
    ----------
    most : most elements of a tensor on the CPU

    Attributes
    ----------
    waits : how often each operation would have waited for the device
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        there = [t for t in tensors if isinstance(t, Elsewhere)]
        device = kwargs.get("device")
        moved = name == "_to_copy" and device is not None
        if there and not moved:
            here = [t for t in tensors if not isinstance(t, Elsewhere)]
            indexing = name in ("index", "index_put", "index_put_", "_index_put_impl_")
            mixed = [t.shape for t in here if t.ndim and not indexing]
            assert not mixed, f"{name} mixes devices: {mixed}"
            if name in _WAITING:
                self.waits[name] += 1
        if device == DEVICE:
            kwargs["device"] = torch.device("cpu")
        result = func(*tree_map(_content, args), **tree_map(_content, kwargs))
        elsewhere = device == DEVICE if device is not None else bool(there)
        if elsewhere and name.endswith("_") and not name.startswith("_") and isinstance(args[0], Elsewhere):
            return args[0]
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, torch.Tensor) and not elsewhere:
                stored = tensor.untyped_storage().nbytes() // tensor.element_size()
                assert stored <= self.most, f"{name} makes {tuple(tensor.shape)} on the CPU"
        return tree_map(lambda t: Elsewhere(t) if isinstance(t, torch.Tensor) else t, result) if elsewhere else result


class WithoutDoubles(Watched):
    """Refuse float64 on `DEVICE`, as Apple's GPUs do. Copies between the devices are allowed, as on any GPU."""

    def __init__(self) -> None:
        super().__init__(most=2**30)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "copy_":
            func(*tree_map(_content, args), **tree_map(_content, kwargs or {}))
            return args[0]
        result = super().__torch_dispatch__(func, types, args, kwargs)
        for tensor in tree_flatten(result)[0]:
            assert not (isinstance(tensor, Elsewhere) and tensor.dtype == torch.float64), f"{func} makes float64"
        return result


def _content(value: Any) -> Any:
    return value.content if isinstance(value, Elsewhere) else value


def values_of(tensor: torch.Tensor) -> np.ndarray:
    """The values of any tensor, unwatched."""
    with _disable_current_modes():
        return _content(tensor).numpy()
