"""Checkpoints: read published weights safely and convert them to sources.

Names are imported when they are used, because the catalogue and addresses don't need torch.
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
