"""Plans of an arm whose source was chosen for each fold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnunet_transfer.errors import PlansError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.paths import nnunet_preprocessed
from nnunet_transfer.sources import load_source


def write_chosen_plans(dataset: str, base: str, name: str, arm: str, chosen: Mapping[int, str]) -> Path:
    """Write plans that are those of `base` but for their name and the source of each fold; return their path.

    The checksums of the sources are recorded, too: a training refuses other weights.

    Parameters
    ----------
    dataset : folder name of the data set
    base, name : names of the existing plans and of the new ones
    arm : what the plans name in place of one source
    chosen : fold -> source

    Raises
    ------
    PlansError
        If the existing plans aren't transfer plans.
    SourceError
        If a source doesn't exist.
    """
    folder = nnunet_preprocessed() / dataset
    plans = read_json(folder / f"{base}.json")
    if not isinstance(plans.get("transfer"), dict):
        raise PlansError(f"{folder / base}.json are no plans of this package; write them with `nnunet_transfer plan`")
    transfer = {
        **plans["transfer"],
        "source": arm,
        "chosen": {str(fold): source for fold, source in chosen.items()},
        "chosen_sha256": {str(fold): load_source(source).card.sha256 for fold, source in chosen.items()},
    }
    write_json(folder / f"{name}.json", {**plans, "plans_name": name, "transfer": transfer})
    return folder / f"{name}.json"
