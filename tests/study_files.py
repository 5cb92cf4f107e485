"""The file of a small study, and changes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

SMALL: dict[str, Any] = {
    "name": "small",
    "profile": "demo",
    "configuration": "2d",
    "device": "cpu",
    "plans": {"batch_size": 4, "patch_size": [32, 32]},
    "datasets": {"t1": {"id": 702, "synthetic": "t1"}, "stroke": {"id": 711, "synthetic": "stroke"}},
    "sources": {"t1_segmentation": {"pretrain": "t1", "epochs": 1, "iterations": 5, "seed": 0}},
    "targets": {"stroke": {"dataset": "stroke", "folds": [0, 1], "protocols": ["atlas_r2"]}},
    "training": {"epochs": 1, "iterations": 5},
    "seeds": [0],
}

Change = Callable[[dict[str, Any]], Any]


def write_study(folder: Path, change: Change | None = None) -> Path:
    """Write the small study, changed, one key per line."""
    content = json.loads(json.dumps(SMALL))
    if change:
        change(content)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def set_(*place: Any, to: Any) -> Change:
    """Return a change that sets one value."""

    def change(content: dict[str, Any]) -> None:
        part: Any = content
        for key in place[:-1]:
            part = part.setdefault(key, {}) if isinstance(part, dict) else part[key]
        part[place[-1]] = to

    return change
