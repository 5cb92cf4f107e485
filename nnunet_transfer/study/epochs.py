"""Progress of a training, from nnU-Net's log."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nnunet_transfer.naming import NNUNET_EPOCHS, parse_trainer_name
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.estimates import TRAININGS
from nnunet_transfer.study.jobs import Job

_EPOCH = re.compile(r"Epoch (\d+)")
_EPOCH_SECONDS = re.compile(r"Epoch time: ([\d.]+) s")
#: number of bytes at the end of a log to search for the last epoch
_TAIL = 20_000


@dataclass(frozen=True)
class Epoch:
    """The current epoch of a training.

    Attributes
    ----------
    number, total : current epoch and number of epochs
    seconds : duration of the last epoch; None before the end of the first
    """

    number: int
    total: int
    seconds: float | None

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining time of the training."""
        return None if self.seconds is None else (self.total - self.number) * self.seconds


def latest_epoch(study: Study, job: Job) -> Epoch | None:
    """Return the current epoch of a training; None for other steps and before the first epoch."""
    log = state.last_log(study.folder, job)
    if job.kind not in TRAININGS or not log.is_file():
        return None
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        text = stream.read().decode(errors="replace")
    found, seconds = _EPOCH.findall(text), _EPOCH_SECONDS.findall(text)
    if not found:
        return None
    total = parse_trainer_name(job.settings["trainer"]).epochs or NNUNET_EPOCHS
    return Epoch(int(found[-1]), total, float(seconds[-1]) if seconds else None)
