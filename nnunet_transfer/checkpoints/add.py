"""Add a checkpoint to the registry, or describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_transfer.checkpoints import stated
from nnunet_transfer.checkpoints.converted import Converted, Format, card_fields
from nnunet_transfer.checkpoints.downloads import obtained, public_address
from nnunet_transfer.checkpoints.formats import convert_mapped, read_key_map, recognise
from nnunet_transfer.checkpoints.found import Found, open_checkpoint
from nnunet_transfer.checkpoints.published import own_card, published_source
from nnunet_transfer.checkpoints.state_dicts import note_on_other_entries
from nnunet_transfer.checkpoints.uses import uses_of
from nnunet_transfer.errors import CheckpointError, SourceError, one_line
from nnunet_transfer.paths import sources_folder
from nnunet_transfer.plans.architectures import from_card
from nnunet_transfer.plans.classes import foreign_names, wrong_class
from nnunet_transfer.sources import Source, SourceCard, save_source
from nnunet_transfer.sources.keys import canonical, is_statistic
from nnunet_transfer.sources.outputs import OUTPUTS
from nnunet_transfer.sources.registry import check_types
from nnunet_transfer.sources.schema import LABEL_CHANNELS, NAME, NAME_RULE


@dataclass(frozen=True)
class Reading:
    """How to read a checkpoint.

    Attributes
    ----------
    trust
        Unpickle the file without restrictions. This can run arbitrary code.
    key_map
        File with a map from the checkpoint's keys to nnU-Net's.
    fold, checkpoint
        Fold and checkpoint file, if the location is a model folder.
    """

    trust: bool = False
    key_map: Path | None = None
    fold: str | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What the user states about a checkpoint. Empty fields are filled from the file where possible.

    Attributes
    ----------
    licence, citation
        Licence of the weights, and the publication to cite.
    trained_on
        Names of the training data sets.
    channel_names
        Names of the image channels.
    address
        Where the file was downloaded from.
    """

    licence: str = ""
    citation: str = ""
    trained_on: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    address: str = ""


def check_name_free(name: str, overwrite: bool) -> None:
    """Check, before a long download, that a source can be saved under this name.

    Raises
    ------
    SourceError
        If the name is invalid or taken.
    """
    if not NAME.fullmatch(name):
        raise SourceError(f"source {one_line(name, 100)}: {NAME_RULE}")
    if (sources_folder() / name).exists() and not overwrite:
        raise SourceError(f"source {name} already exists; choose another name, or replace it with --overwrite")


def add_source(
    location: str | PathLike[str],
    name: str = "",
    *,
    task: str = "",
    domain: str = "",
    provenance: Provenance | None = None,
    reading: Reading | None = None,
    sha256: str = "",
    overwrite: bool = False,
) -> Path:
    """Convert a checkpoint to a source.

    Parameters
    ----------
    location : weights file, run folder, exported zip, address, or folder of a source, such as one written by `sources publish`
    name, task, domain : fields of the source, see `SourceCard`; a published source has defaults in its card
    sha256 : SHA-256 checksum of a file or download, or its first digits, at least 8

    Returns
    -------
    Path
        The source's folder in the registry.

    Raises
    ------
    CheckpointError
        If the checkpoint can't be read safely or doesn't fit any nnU-Net network.
    SourceError
        If the name is taken or a value is not allowed.
    """
    if name:
        check_name_free(name, overwrite)
    said = provenance or Provenance()
    with obtained(location, sha256) as (path, address):
        said = replace(said, address=address or said.address)
        return _add(path, name, task, domain, said, reading or Reading(), overwrite)


def _add(
    path: Path, name: str, task: str, domain: str, provenance: Provenance, reading: Reading, overwrite: bool
) -> Path:
    if source := _published(path, reading):
        card = own_card(source.card, name, task, domain, provenance)
        check_name_free(card.name, overwrite)
        return save_source(card, source.tensors(), overwrite=overwrite)
    if not (name and task and domain):
        raise SourceError(
            f"{path.name}: give a name, a task and a domain; only sources written by `sources publish` state their own"
        )
    check_name_free(name, overwrite)
    with open_checkpoint(path, trust=reading.trust, fold=reading.fold, checkpoint=reading.checkpoint) as found:
        known, converted = _converted(found, reading)
        said = {key: getattr(provenance, key) for key in ("channel_names", "trained_on", "citation")}
        card = SourceCard(
            name=name,
            task=task,
            domain=domain,
            **card_fields(converted) | {key: value for key, value in said.items() if value},
            licence=provenance.licence or converted.licence or found.licence,
            format=known,
            extra={
                "file": path.name,
                **({"address": public_address(provenance.address)} if provenance.address else {}),
                "notes": list(converted.notes),
                **({LABEL_CHANNELS: converted.label_channels} if converted.label_channels else {}),
                **({OUTPUTS: [list(group) for group in converted.outputs]} if converted.outputs else {}),
                **({"trusted": "unpickled without checks"} if reading.trust else {}),
            },
        )
        return save_source(card, converted.tensors, overwrite=overwrite)


def _published(path: Path, reading: Reading) -> Source | None:
    """Return a published source; refuse options that have no effect on it."""
    source = published_source(path)
    if source and reading != Reading(trust=reading.trust):
        raise CheckpointError(f"{path} is a published source; leave --map, --fold and --checkpoint out")
    return source


def inspect_checkpoint(
    location: str | PathLike[str], *, reading: Reading | None = None, sha256: str = ""
) -> dict[str, Any]:
    """Describe a checkpoint in plain JSON types, without adding it. The parameters are those of `add_source`."""
    with obtained(location, sha256) as (path, address):
        # a download's path ends with this block
        return _inspect(path, reading or Reading()) | ({"file": public_address(address)} if address else {})


def _inspect(path: Path, reading: Reading) -> dict[str, Any]:
    if source := _published(path, reading):
        return _described_source(path, source)
    with open_checkpoint(path, trust=reading.trust, fold=reading.fold, checkpoint=reading.checkpoint) as found:
        known, converted = _converted(found, reading)
        check_types(path.name, converted.tensors)
        used = {name: tensor for name, tensor in converted.tensors.items() if name not in converted.made}
        without_use = _distinct(found.tensors) - _distinct(used)
        return _described(path, known, converted, converted.licence or found.licence, without_use)


def _distinct(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of tensors, each counted once: by nnU-Net's aliases, and by the memory that other aliases share."""
    named = canonical(tensors)
    return len({(t.data_ptr(), tuple(t.shape)) if t.numel() else (name, ()) for name, t in named.items()})


def _described(
    path: Path, known: str, content: Converted, licence: str, without_use: int, **said: str
) -> dict[str, Any]:
    kwargs = content.architecture["arch_kwargs"]
    features = kwargs["features_per_stage"]
    return {
        "file": str(path),
        "format": known,
        **said,
        "network": str(content.architecture["network_class_name"]).rsplit(".", 1)[-1],
        "dimensions": 2 if str(kwargs.get("conv_op", "")).endswith("2d") else 3,
        "parts": content.parts,
        "input_channels": content.input_channels,
        "channel_names": list(content.channel_names),
        "label_channels": content.label_channels,
        "stages": kwargs["n_stages"],
        "features_per_stage": [features] * kwargs["n_stages"] if isinstance(features, int) else list(features),
        "parameters": sum(t.numel() for k, t in content.tensors.items() if not is_statistic(k)),
        "tensors": len(content.tensors),
        "tensors_without_use": without_use,
        "spacing": list(content.spacing),
        "patch_size": list(content.patch_size),
        "normalization_schemes": list(content.normalization_schemes),
        "outputs": [name for group in content.outputs for name in group],
        "trained_on": list(content.trained_on),
        "licence": licence or "unknown",
        "citation": content.citation,
        "uses": list(uses_of(content.architecture, content.parts, content.outputs, licence)),
        "notes": list(content.notes),
    }


def _described_source(path: Path, source: Source) -> dict[str, Any]:
    card = source.card
    content = Converted(
        source.tensors(),
        **card_fields(card),
        label_channels=card.label_channels,
        notes=stated.words(card.extra.get("notes")),
        outputs=card.outputs,
    )
    said = {"name": card.name, "task": card.task, "domain": card.domain}
    return _described(path, f"source ({card.format})", content, card.licence, 0, **said)


def _converted(found: Found, reading: Reading) -> tuple[str, Converted]:
    others = (*([found.chosen] if found.chosen else []), *note_on_other_entries(found.content, found.holder))
    if reading.key_map is not None:
        mapped = convert_mapped(found.tensors, read_key_map(reading.key_map))
        return "key map", replace(mapped, notes=(*mapped.notes, *others))
    notes = [*others, *_check_names(found)]
    known = recognise(found)
    converted = _fitting(known, found)
    if wrong := wrong_class(from_card(converted.architecture)):
        raise CheckpointError(
            f"{found.path.name}: its plans name {wrong}, which isn't a network or layer that plans may name; "
            f"it was not read"
        )
    return known.name, replace(converted, notes=(*converted.notes, *notes))


def _fitting(known: Format, found: Found) -> Converted:
    """Convert a checkpoint; refuse it if names, shapes and plans contradict each other.

    Readers of formats report the contradictions that they check for, but a file from an unknown author may contain others.
    """
    try:
        converted = known.convert(found)
        _check_stages(converted.architecture["arch_kwargs"])
        return converted
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(
            f"{found.path.name} looks like {known.name}, but its names, shapes and plans contradict each other "
            f"({type(error).__name__}: {one_line(error, 200)})"
        ) from error


def _check_stages(kwargs: Mapping[str, Any]) -> None:
    """Raise a ValueError if a network's stages and widths are not numbers, because plans in a file may contain anything."""
    stages, features = kwargs.get("n_stages"), kwargs.get("features_per_stage")
    widths = features if isinstance(features, (list, tuple)) else [features]
    if not widths or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (stages, *widths)):
        raise ValueError(f"n_stages {one_line(stages, 40)}, features_per_stage {one_line(features, 80)}")


def _check_names(found: Found) -> list[str]:
    """Check the names that nnU-Net would look up from the plans; return a note on each name that stock nnU-Net doesn't have."""
    arguments = stated.mapping(found.top.get("init_args"))
    pretrain_plan = stated.mapping(stated.mapping(found.adaptation_plan).get("pretrain_plan"))
    notes: dict[str, None] = {}
    for plans in (stated.mapping(arguments.get("plans")), found.plans or {}, pretrain_plan):
        for setting, name in foreign_names(plans):
            if not name.isidentifier():
                raise CheckpointError(
                    f"{found.path.name}: its plans name {name} as {setting}, which isn't a name of nnU-Net's; it wasn't read"
                )
            notes[f"its plans name {name} as {setting}, which stock nnU-Net doesn't have: a source leaves it out"] = (
                None
            )
    return list(notes)
