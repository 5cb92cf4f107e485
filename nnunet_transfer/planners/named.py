"""Planner classes by name, with the signature and the effects that nnU-Net's commands expect of a planner."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from nnunet_transfer.errors import PlansError
from nnunet_transfer.files import read_json
from nnunet_transfer.plans import PROFILES, get_profile, plans_name_for, write_transfer_plans
from nnunet_transfer.sources import load_source
from nnunet_transfer.training.one_line import one_line_errors

PREFIX = "nnUNetPlannerTransfer_"
OF_SOURCE = "from_"


class TransferPlanner:
    """Write transfer plans from nnU-Net's commands. Parameters are those of nnU-Net's `ExperimentPlanner`.

    Attributes
    ----------
    profile, source : what the class is for; exactly one is set
    """

    profile: str | None = None
    source: str | None = None

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float | None = None,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
    ) -> None:
        if suppress_transpose:
            with one_line_errors():
                raise PlansError(
                    "transfer plans are transposed like nnU-Net's default plans; leave out suppress_transpose"
                )
        self.dataset = dataset_name_or_id
        self.plans_identifier = plans_name or plans_name_for(profile=self.profile, source=self.source)
        self.options: dict[str, Any] = {
            "gpu_memory": gpu_memory_target_in_gb,
            "preprocessor": preprocessor_name,
            "target_spacing": overwrite_target_spacing,
        }

    def plan_experiment(self) -> dict[str, Any]:
        """Write the plans and return them."""
        with one_line_errors():
            path = write_transfer_plans(
                self.dataset, profile=self.profile, source=self.source, name=self.plans_identifier, **self.options
            )
        print(f"Plans were saved to {path}")
        return read_json(path)


def planner_names() -> dict[str, str]:
    """Return the name of each profile's planner, with the profile's description."""
    return {f"{PREFIX}{name}": profile.description for name, profile in PROFILES.items()}


@cache
def get_planner_class(name: str) -> type[TransferPlanner]:
    """Return the planner with this name: `nnUNetPlannerTransfer_<profile>` or `nnUNetPlannerTransfer_from_<source>`.

    Raises
    ------
    PlansError, SourceError
        If there is no such profile or source.
    """
    subject = name.removeprefix(PREFIX)
    if subject.startswith(OF_SOURCE):
        source = subject.removeprefix(OF_SOURCE)
        load_source(source)
        return type(name, (TransferPlanner,), {"__module__": __name__, "source": source})
    get_profile(subject)
    return type(name, (TransferPlanner,), {"__module__": __name__, "profile": subject})
