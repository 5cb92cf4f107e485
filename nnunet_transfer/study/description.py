"""The parts of a study."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_transfer.naming import ARMS, TRANSFER, TrainerName
from nnunet_transfer.plans import plans_name_for

SCRATCH = "scratch"
#: the arm that starts, in each fold, from the source that ranks first on the fold's training cases
BEST = "best"
#: configuration -> those whose preprocessed data its training also reads: nnU-Net validates the first stage of a cascade on the
#: grid of the next stage, whose data are those of 3d_fullres
_ALSO_READ = {"3d_lowres": ("3d_fullres",)}


def fixed_arms() -> dict[str, str]:
    """Return source -> the arm that always starts from it."""
    return {source or SCRATCH: arm for arm, source in ARMS.items()}


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes
    ----------
    number : nnU-Net's id
    converter, path, options : arguments of `nnunet_transfer convert`, if the study converts it
    synthetic, seed : name and seed, if it is one of the demo's data sets. A data set with neither is already in `nnUNet_raw`
    plans : settings of `write_transfer_plans`
    written : `converter` and `path` as written in the file, which may be relative so that a study can be moved with its data
    """

    name: str
    number: int
    converter: str = ""
    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    synthetic: str = ""
    seed: int = 0
    plans: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A source that is pre-trained in the study, added from a checkpoint, or fetched from the catalogue.

    Attributes
    ----------
    dataset, trainer, configuration, fold : settings of the pre-training; the trainer is None for other sources
    checkpoint, details : file, folder or address of a checkpoint, and its description, as written in the file
    key_map : file that maps the checkpoint's keys
    fetch : name in the catalogue
    """

    name: str
    dataset: str = ""
    trainer: TrainerName | None = None
    configuration: str = ""
    fold: int | str = 0
    checkpoint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    key_map: Path | None = None
    fetch: str = ""


@dataclass(frozen=True)
class Target:
    """A data set to segment, its folds, and its lesion protocols."""

    name: str
    dataset: str
    folds: tuple[int, ...]
    protocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyArm:
    """An arm, trained once per target and fold: a source or scratch, and the trainer.

    Attributes
    ----------
    source : name of a source of the study, None for scratch, `BEST` if a ranking chooses it
    trainer : trainer name with recipe, cases, schedule and seed
    """

    source: str | None
    trainer: TrainerName

    @property
    def named_in_plans(self) -> bool:
        """Whether the plans name the source, because the trainer's name doesn't."""
        return self.trainer.base == TRANSFER

    @property
    def name(self) -> str:
        """The trainer's name, followed by `@<source>` if the trainer's name doesn't determine the source."""
        return self._named(self.trainer)

    @property
    def unseeded(self) -> str:
        """The name without the seed, as the comparison names the arm."""
        return self._named(replace(self.trainer, seed=None))

    @property
    def base(self) -> str:
        """The name without recipe, lengths and all other suffixes."""
        return self._named(self.trainer.base)

    def is_called(self, name: str) -> bool:
        """Whether a baseline's name means this arm, perhaps among others."""
        return name in (self.source or SCRATCH, self.trainer.base, self.base, self.unseeded, self.name)

    def _named(self, trainer: TrainerName | str) -> str:
        return f"{trainer}@{self.source}" if self.named_in_plans else str(trainer)


@dataclass(frozen=True)
class Resources:
    """Resources of one step: processor cores, memory in GB, time limit in hours, GPUs."""

    cpus: int
    memory_gb: float
    hours: float
    gpus: int = 0


@dataclass(frozen=True)
class Study:
    """A study; the attributes are named after the keys of the study file.

    Attributes
    ----------
    name
        Name of the study.
    file, folder
        The study file, and the folder that all output goes to.
    folders
        nnU-Net's environment variable -> folder.
    profile
        Architecture of all networks.
    configuration
        nnU-Net configuration of the targets.
    device
        Device of the trainings.
    datasets, sources, targets
        Data sets, sources and targets by name.
    arms
        The arms to train.
    comparison
        Keyword arguments for the comparison.
    resources
        What each kind of step needs.
    environment
        Environment variables of the steps.
    allow_leakage
        Run although a source has seen the subjects of a target.
    """

    name: str
    file: Path
    folder: Path
    folders: Mapping[str, Path]
    profile: str
    configuration: str
    device: str
    datasets: Mapping[str, Dataset]
    sources: Mapping[str, Source]
    targets: Mapping[str, Target]
    arms: tuple[StudyArm, ...]
    comparison: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Resources] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    allow_leakage: bool = False

    @property
    def baseline(self) -> str:
        """The comparison's baseline as `compare` takes it; empty for its default."""
        wanted = self.comparison.get("baseline", "")
        bases = {arm.source or SCRATCH: arm.base for arm in self.arms}
        return str(bases.get(wanted, wanted))

    def path(self, text: str) -> Path:
        """Return a path that was written in the file, in whose folder it starts."""
        return self.file.parent / os.path.expanduser(os.path.expandvars(text))

    def command(self, action: str) -> str:
        """Return a command on this study, such as `check`, to be pasted into a shell."""
        return f"nnunet_transfer study {action} {shlex.quote(str(self.file))}"

    def sources_of(self, arm: StudyArm) -> tuple[str, ...]:
        """Return the names of the sources that an arm may start from."""
        if arm.source is None:
            return ()
        return tuple(self.sources) if arm.source == BEST else (arm.source,)

    def ranking_file(self, target: str, fold: int) -> Path:
        """Return the table of the sources' scores for a fold of a target."""
        return self.folder / "ranking" / f"{target}_fold{fold}.csv"

    def plans_name(self, source: str | None = None) -> str:
        """Return the name of the plans: those of all data sets, or those that name a source."""
        return plans_name_for(profile=self.profile, source=source)

    def configurations(self, dataset: str) -> tuple[str, ...]:
        """Return the configurations in which a data set is used, and those whose data these also read."""
        used = [s.configuration for s in self.sources.values() if s.dataset == dataset]
        if any(t.dataset == dataset for t in self.targets.values()):
            used.append(self.configuration)
        return tuple(dict.fromkeys([*used, *(other for name in used for other in _ALSO_READ.get(name, ()))]))
