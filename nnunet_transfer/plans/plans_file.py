"""Write plans, or add their configurations to plans of the same name."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import PlansError
from nnunet_transfer.files import read_json, write_json

log = logging.getLogger(__name__)

#: settings that must agree to add configurations to plans, besides those of all configurations
_SAME_TRANSFER = ("profile", "source", "sha256", "rules")


def write_plans(plans: dict[str, Any], path: Path, overwrite: bool) -> Path:
    """Write plans; without `overwrite`, only add configurations to those that exist.

    Raises
    ------
    PlansError
        If the existing plans differ.
    """
    if path.is_file() and not overwrite:
        old, new = read_json(path), json.loads(json.dumps(plans))
        if differing := next(_differences(old, new), ""):
            raise PlansError(
                f"{path} exists and differs in {differing}; a training may have used it: choose another name, or replace it "
                f"with `nnunet_transfer plan --overwrite`"
            )
        plans = _with_added(old, new)
        if plans == old:
            return path
        log.info(
            "added to the plans: %s", ", ".join(c for c in new["configurations"] if c not in old["configurations"])
        )
    write_json(path, plans)
    return path


def _differences(old: Any, new: dict[str, Any]) -> Iterator[str]:
    """Yield the differences between plans, apart from configurations that only one of them has."""
    if not isinstance(old, dict) or not all(isinstance(old.get(key), dict) for key in ("configurations", "transfer")):
        yield "what made it"
        return
    for key in dict.fromkeys((*new, *old)):
        if key not in ("configurations", "transfer") and old.get(key) != new.get(key):
            yield key
    yield from (f"transfer.{key}" for key in _SAME_TRANSFER if old["transfer"].get(key) != new["transfer"].get(key))
    for name, mine in new["configurations"].items():
        other = old["configurations"].get(name, mine)
        yield from (f"{key} of {name}" for key in dict.fromkeys((*mine, *other)) if mine.get(key) != other.get(key))


def _with_added(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the old plans, unchanged, with the new configurations added."""
    added = {name: c for name, c in new["configurations"].items() if name not in old["configurations"]}
    transfer = dict(old["transfer"])
    if added and transfer.get("origin") != new["transfer"]["origin"]:
        others = {name: new["transfer"]["origin"] for name in added}
        transfer["origin_of_added"] = {**transfer.get("origin_of_added", {}), **others}
    return {**old, "configurations": {**old["configurations"], **added}, "transfer": transfer}
