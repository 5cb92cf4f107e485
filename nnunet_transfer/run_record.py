"""Read what a fold's `provenance.json` records of its training. No torch."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json

FILE = "provenance.json"


def recorded_run(folder: Path) -> dict[str, Any]:
    """Return the facts of the run that a fold's `provenance.json` states; empty where it says nothing."""
    try:
        return dict(read_json(folder / FILE)["run"])
    except (DataError, KeyError, TypeError, ValueError):
        return {}


def beginning(folder: Path) -> float | None:
    """Return when the training that a fold's `provenance.json` describes began, in seconds since 1970; None if it doesn't say."""
    try:
        first = read_json(folder / FILE)["sessions"][0]
        return datetime.fromisoformat(first["started"]).timestamp() if first["first_epoch"] == 0 else None
    except (DataError, IndexError, KeyError, TypeError, ValueError):
        return None
