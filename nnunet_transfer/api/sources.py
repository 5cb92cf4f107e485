"""Inspect, add, list, rank and publish pre-trained networks."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_transfer.checkpoints import Provenance, Reading
    from nnunet_transfer.ranking.rank import RankedSource, RankSettings
    from nnunet_transfer.sources import Source, SourceCard


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
) -> Source:
    """Add a checkpoint to the registry.

    Parameters
    ----------
    location
        Weights file, folder of an nnU-Net model or run, exported zip, or address: `https://...`,
        `hf://OWNER/REPOSITORY/FILE`, `timm://MODEL`, `torchvision://WEIGHTS`. A source that `publish_source` wrote is
        given as its folder or as `hf://OWNER/REPOSITORY`.
    name
        Name in the registry; a published source has a default in its card.
    task, domain
        What the network was trained for (`classification`, `segmentation` or `self_supervised`) and on which kind of
        images; a published source has defaults in its card.
    provenance
        Licence, citation, training data and channel names; empty fields are filled from the file where possible.
    reading
        Which fold and checkpoint of a model to read, a key map, and whether to trust the file.
    sha256
        SHA-256 checksum of the file or download, or its first digits, at least 8.
    overwrite
        Replace a source with this name.

    Returns
    -------
    Source
        The source in the registry.

    Raises
    ------
    TransferError
        If the file can't be read safely or doesn't fit any nnU-Net network, or the name is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> checkpoint = getfixture("timm_resnet18d")  # a state dict of timm's resnet18d
    >>> provenance = nt.Provenance(licence="Apache-2.0", trained_on=("ImageNet-1k",))
    >>> source = nt.add_source(
    ...     checkpoint, "imagenet", task="classification", domain="natural", provenance=provenance
    ... )
    >>> source.card.parts, source.card.input_channels, source.card.licence
    ('encoder', 3, 'Apache-2.0')
    """
    from nnunet_transfer import checkpoints
    from nnunet_transfer.sources import load_source

    folder = checkpoints.add_source(
        location,
        name,
        task=task,
        domain=domain,
        provenance=provenance,
        reading=reading,
        sha256=sha256,
        overwrite=overwrite,
    )
    return load_source(folder)


def inspect_source(
    location: str | PathLike[str], *, reading: Reading | None = None, sha256: str = ""
) -> dict[str, Any]:
    """Describe a checkpoint and what it can be used for, without adding it.

    Parameters
    ----------
    location, reading, sha256
        As for `add_source`.

    Returns
    -------
    dict
        Format, network, channels, stages, number of parameters, licence, uses and notes, as plain JSON types.

    Raises
    ------
    TransferError
        If the file can't be read safely or doesn't fit any nnU-Net network.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> found = nt.inspect_source(getfixture("timm_resnet18d"))  # a state dict of timm's resnet18d
    >>> found["parts"], found["dimensions"], found["input_channels"], found["parameters"]
    ('encoder', 2, 3, 11166976)
    """
    from nnunet_transfer.checkpoints import inspect_checkpoint

    return inspect_checkpoint(location, reading=reading, sha256=sha256)


def fetch_source(name: str, *, save_as: str | None = None, overwrite: bool = False) -> Source:
    """Download a checkpoint from the catalogue and add it to the registry.

    `nnunet_transfer sources fetch` lists the catalogue.

    Parameters
    ----------
    name
        Name in the catalogue.
    save_as
        Name in the registry; default: the name in the catalogue.
    overwrite
        Replace a source with this name.

    Returns
    -------
    Source
        The source in the registry.

    Raises
    ------
    TransferError
        If the name is unknown or taken, the download fails, or the file's checksum is not the one in the catalogue.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.fetch_source("imagenet_resnet18d")  # doctest: +SKIP
    Source(...)
    """
    from nnunet_transfer.checkpoints.catalogue import fetch_source
    from nnunet_transfer.sources import load_source

    return load_source(fetch_source(name, save_as=save_as, overwrite=overwrite))


def publish_source(
    name: str,
    folder: str | PathLike[str],
    *,
    licence: str = "",
    licence_file: str | PathLike[str] | None = None,
    leave_out_cases: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a source and its model card to a folder for Hugging Face.

    `add_source` reads the folder back without loss, except for what `leave_out_cases` removes.

    Parameters
    ----------
    name
        Name in the registry.
    folder
        New or empty folder.
    licence, licence_file
        Licence of the weights, if the card states none or a different one, and a file with the licence text.
    leave_out_cases
        Leave out the identifiers of training cases and lesion donors.
    overwrite
        Replace a source that was published to this folder before.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TransferError
        If no licence is known, the weights have changed since they were added, or the folder contains other files.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> folder = nt.publish_source(getfixture("registered_source"), getfixture("tmp_path") / "out", licence="MIT")
    >>> sorted(file.name for file in folder.iterdir())
    ['LICENSE', 'README.md', 'SHA256SUMS', 'source.json', 'weights.safetensors']
    """
    from nnunet_transfer.sources.publishing import publish_source

    return publish_source(
        name,
        Path(folder),
        licence=licence,
        licence_file=Path(licence_file) if licence_file else None,
        leave_out_cases=leave_out_cases,
        overwrite=overwrite,
    )


def load_source(name: str | PathLike[str]) -> Source:
    """Return a source by its name in the registry, or by its folder.

    Parameters
    ----------
    name
        Name in the registry, or the source's folder.

    Raises
    ------
    TransferError
        If the source doesn't exist, or its card can't be read.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> source = nt.load_source(getfixture("registered_source"))
    >>> source.card.task, source.card.channel_names
    ('segmentation', ('T1',))
    >>> source.verify()  # compares the weights with the checksum in the card
    """
    from nnunet_transfer.sources import load_source

    return load_source(name)


def list_sources() -> list[SourceCard]:
    """Return the cards of all sources in the registry, sorted by name.

    Sources with a damaged card are logged and left out.

    Returns
    -------
    list of SourceCard
        One card per source.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> name = getfixture("registered_source")
    >>> [card.name for card in nt.list_sources()]
    ['t1_segmentation']
    """
    from nnunet_transfer.sources import list_sources

    return list_sources()


def rank_sources(
    dataset: str,
    configuration: str,
    plans: str,
    names: Sequence[str] = (),
    *,
    settings: RankSettings | None = None,
    device: str = "cpu",
) -> list[RankedSource]:
    """Score sources for a target without fine-tuning, on its training cases only.

    Parameters
    ----------
    dataset, configuration, plans
        The target; it must be preprocessed with these plans.
    names
        Names of sources in the registry; default: all.
    settings
        Fold, number of cases and patches, seed, and a table of scores on other targets.
    device
        Device that computes the features, such as `cpu` or `cuda`.

    Returns
    -------
    list of RankedSource
        Sorted by fitted-head Dice, best first. The list includes a randomly initialised network as the reference.

    Raises
    ------
    TransferError
        If the target or a source can't be read.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.rank_sources("Dataset021_ATLAS", "2d", "nnUNetPlans_resnet18")  # doctest: +SKIP
    [RankedSource(...), ...]
    """
    from nnunet_transfer.ranking.rank import rank_sources

    return rank_sources(dataset, configuration, plans, names, settings=settings, device=device)
