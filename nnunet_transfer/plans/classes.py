"""The classes that an architecture names. They are imported and called by name: a card could name anything.

Torch is needed here, unlike in the rest of what writes about plans.
"""

from __future__ import annotations

import pydoc
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def wrong_class(architecture: Mapping[str, Any]) -> str:
    """Return the first name in an architecture, with the keys of plans, that is no class of layers or networks.

    nnU-Net calls what such a name leads to with arguments from the same file (`get_network_from_plans`, nnunetv2 2.8):
    `os.system` as a nonlinearity would run a program. An empty text means that all are in order.
    """
    kwargs = architecture["arch_kwargs"]
    names = [architecture["network_class_name"], *(kwargs.get(key) for key in architecture["_kw_requires_import"])]
    for name in names:
        if name is not None and not _is_module(name):
            return str(name)
    return ""


def _is_module(name: object) -> bool:
    if not isinstance(name, str) or not _DOTTED.fullmatch(name):
        return False
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport:
        return False
    return isinstance(found, type) and issubclass(found, nn.Module)
