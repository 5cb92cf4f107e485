"""Training curves from nnU-Net's own log files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.results import Run

COLUMNS = ("arm", "seed", "fold", "epoch", "train_loss", "val_loss", "pseudo_dice", "seconds")
# format of nnunetv2 2.8 (nnUNetTrainer.on_epoch_end)
_LINE = re.compile(
    r"^\S+ \S+: (?:(Epoch) (\d+)|(train_loss|val_loss) (\S+)|(Pseudo dice) \[(.*)\]|(Epoch time): (\S+) s)\s*$"
)
_NUMBER = re.compile(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?|nan")


def training_curves(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run, fold and epoch; if an epoch was trained twice (`--c`), the later one.

    `pseudo_dice` is nnU-Net's estimate on patches of the validation cases, as a mean over classes.
    """
    rows = []
    for run in runs:
        for fold, validation in run.folds.items():
            for epoch, values in sorted(read_epochs(validation.parent).items()):
                rows.append({"arm": run.arm.name, "seed": run.seed, "fold": fold, "epoch": epoch, **values})
    return pd.DataFrame(rows, columns=COLUMNS)


def read_epochs(folder: Path) -> dict[int, dict[str, float]]:
    """Return epoch -> its values in the logs of a fold; only complete epochs."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob("training_log_*.txt"), key=_time):
        epoch, values = -1, dict[str, float]()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            _, number, loss, value, _, scores, _, seconds = match.groups()
            if number is not None:
                epoch, values = int(number), {}
            elif loss is not None:
                values[loss] = _float(value)
            elif scores is not None:
                numbers = [
                    float(n) for n in _NUMBER.findall(scores.replace("np.float32", "").replace("np.float64", ""))
                ]
                known = [n for n in numbers if np.isfinite(n)]
                values["pseudo_dice"] = float(np.mean(known)) if known else float("nan")
            elif epoch >= 0:
                found[epoch] = {**values, "seconds": _float(seconds)}
    return found


def _time(log: Path) -> list[int]:
    """Return the time in a log's name, whose month and day have no leading zeros."""
    return [int(number) for number in re.findall("[0-9]+", log.stem)]


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
