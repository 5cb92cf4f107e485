"""What a study consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_transfer.naming import ARMS, TRANSFER, TrainerName
from nnunet_transfer.plans import plans_name_for

SCRATCH = "scratch"


def fixed_arms() -> dict[str, str]:
    """Return source -> the arm that starts from it and from no other."""
    return {source or SCRATCH: arm for arm, source in ARMS.items()}


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes
    ----------
    number : nnU-Net's id
    converter, path, options : how it is converted, as `nnunet_transfer convert` takes it; or
    synthetic, seed : which of the demo's it is; or neither: it lies in `nnUNet_raw` already
    plans : settings of `write_transfer_plans`
    written : `converter` and `path` as they stand in the file, relative or not: a study can be moved with its data
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
    """A source: pre-trained in the study, or added from a checkpoint, or fetched from the catalogue.

    Attributes
    ----------
    dataset, trainer, configuration, fold : of the pre-training; the trainer is None for other sources
    checkpoint, details : file, folder or address, and what is said about it
    fetch : name in the catalogue
    """

    name: str
    dataset: str = ""
    trainer: TrainerName | None = None
    configuration: str = ""
    fold: int | str = 0
    checkpoint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    fetch: str = ""


@dataclass(frozen=True)
class Target:
    """A data set that is segmented, its folds, and the lesion protocols it is compared by."""

    name: str
    dataset: str
    folds: tuple[int, ...]
    protocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyArm:
    """One training per target and fold: a source, or scratch, and the trainer that starts from it.

    Attributes
    ----------
    source : name of a source of the study, None for scratch
    trainer : with recipe, cases, schedule and seed
    """

    source: str | None
    trainer: TrainerName

    @property
    def named_in_plans(self) -> bool:
        """Whether the source stands in the plans, because the trainer's name doesn't say it."""
        return self.trainer.base == TRANSFER

    @property
    def name(self) -> str:
        """The trainer's name, followed by `@<source>` where it doesn't follow from it."""
        return f"{self.trainer}@{self.source}" if self.named_in_plans else str(self.trainer)


@dataclass(frozen=True)
class Resources:
    """What one step takes: processor cores, memory in GB, hours at most, GPUs."""

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

    def plans_name(self, source: str | None = None) -> str:
        """Return the name of the plans of all data sets, or those that name a source."""
        return plans_name_for(profile=self.profile, source=source)

    def configurations(self, dataset: str) -> tuple[str, ...]:
        """Return the configurations in which a data set is used."""
        used = [s.configuration for s in self.sources.values() if s.dataset == dataset]
        if any(t.dataset == dataset for t in self.targets.values()):
            used.append(self.configuration)
        return tuple(dict.fromkeys(used))
