"""Transfer learning for nnU-Net v2.

    import nnunet_transfer as nt

The public functions live in `nnunet_transfer.api` and are imported when first used; this import needs neither torch nor
nnU-Net and takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nnunet_transfer.api import *  # noqa: F403 # for type checkers and editors; the real import is lazy


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    api = importlib.import_module(f"{__name__}.api")  # `from ... import api` would ask this function for it
    if name in api.__all__:
        return getattr(api, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")


def __dir__() -> list[str]:
    own = (name for name in globals() if name.startswith("__"))
    return [*own, *importlib.import_module(f"{__name__}.api").__all__]
