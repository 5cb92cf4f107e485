"""Which source the networks of an arm loaded: read from the transfer reports of its folds, not from names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_transfer.errors import ComparisonError, DataError
from nnunet_transfer.files import read_json
from nnunet_transfer.naming import ARMS

REPORT_FILE = "transfer_report.json"


@dataclass(frozen=True)
class Loaded:
    """A source as a transfer report names it.

    Attributes
    ----------
    name, sha256 : of the source
    task, domain : as its card has them
    """

    name: str
    sha256: str
    task: str
    domain: str

    def __str__(self) -> str:
        return f"{self.name} (task {self.task}, domain {self.domain}, sha256 {self.sha256[:12] or 'unknown'})"


def read_loaded(fold: Path) -> Loaded | None:
    """Return what a fold loaded; None where no report says so."""
    try:
        content = read_json(fold / REPORT_FILE)
        return (
            Loaded(*(str(content.get(key) or "") for key in ("source", "sha256", "task", "domain")))
            if content["source"]
            else None
        )
    except (DataError, KeyError, TypeError, AttributeError):
        return None


def loaded_by(trainer: str, folds: Mapping[int, Path]) -> Loaded | None:
    """Return the source that all folds of a trainer loaded; None where no report says so.

    Parameters
    ----------
    folds : fold -> its folder

    Raises
    ------
    ComparisonError
        If the folds loaded different sources.
    """
    found = {k: loaded for k, folder in sorted(folds.items()) if (loaded := read_loaded(folder))}
    if len(set(found.values())) > 1:
        listed = "; ".join(f"fold {k}: {loaded}" for k, loaded in found.items())
        raise ComparisonError(
            f"the folds of {trainer} loaded different sources and are no cross-validation of one: {listed}; train the odd "
            f"ones again, or leave the arm out with --arms"
        )
    return next(iter(found.values()), None)


def contradiction(trainer: str, loaded: Loaded | None) -> str | None:
    """Say how a trainer's name contradicts what its networks loaded; None if it doesn't.

    Parameters
    ----------
    trainer : with or without suffixes
    """
    base = trainer.split("_")[0].split("@")[0]
    if loaded is None or base not in ARMS:
        return None
    expected = ARMS[base]
    if expected is None:
        return f"{trainer} trains from scratch by its name, but its networks loaded {loaded}"
    domain, _, task = expected.partition("_")
    if (loaded.task, loaded.domain) == (task, domain):
        return None
    return f"{trainer} says task {task}, domain {domain} by its name, but its networks loaded {loaded}"
