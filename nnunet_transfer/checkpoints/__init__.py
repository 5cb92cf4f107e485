"""Checkpoints: reading published weights safely and turning them into sources.

What is named here is imported when it is used: the catalogue and addresses need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_transfer.checkpoints.add import Provenance, Reading, add_source, check_name_free, inspect_checkpoint
    from nnunet_transfer.checkpoints.downloads import is_address

__all__ = [
    "Provenance",
    "Reading",
    "add_source",
    "check_name_free",
    "inspect_checkpoint",
    "is_address",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{'downloads' if name == 'is_address' else 'add'}"), name)
