"""Pre-trained networks: inspect, add, list, rank and publish them."""

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
        Weights file, nnU-Net run or model folder, exported zip, or an address: `https://`, `hf://OWNER/REPOSITORY/FILE`,
        `timm://MODEL`, `torchvision://WEIGHTS`; also a folder of `publish_source`, or `hf://OWNER/REPOSITORY` with it.
    name
        Name in the registry; a published source has one of its own.
    task, domain
        What the network was trained to do (`classification`, `segmentation`, `self_supervised`), on which images; the same.
    provenance
        Licence, citation, training data and channel names; what is left out is read from the file.
    reading
        Which fold and file of a model, a key map, and whether to trust the file.
    sha256
        Checksum, or its first digits, of what an address gives.
    overwrite
        Replace a source of this name.

    Raises
    ------
    TransferError
        If the file can't be read safely, doesn't fit any nnU-Net network, or the name is taken.

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
    """Return what a checkpoint holds and what it can be used for, without adding it.

    Parameters
    ----------
    location, reading, sha256
        As of `add_source`.

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
    """Download a checkpoint of the catalogue (`nnunet_transfer sources fetch`) and add it to the registry.

    Parameters
    ----------
    name
        Name in the catalogue.
    save_as
        Name in the registry; default: the catalogue's.
    overwrite
        Replace a source of this name.

    Raises
    ------
    TransferError
        If the name is unknown or taken, there is no network, or the file is not what its publisher states.

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
    """Write a source into a folder for Hugging Face, with a model card; `add_source` reads it back as it was.

    Parameters
    ----------
    name
        Name in the registry.
    folder
        New or empty folder.
    licence, licence_file
        Licence of the weights, where its card states none or another, and a file with its text.
    leave_out_cases
        Leave out the identifiers of training cases and lesion donors.
    overwrite
        Replace what was published into this folder before.

    Raises
    ------
    TransferError
        If no licence is known, the weights were changed, or the folder holds something else.

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

    Raises
    ------
    TransferError
        If there is none, or its card can't be read.

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
    """Score sources for a target before any fine-tuning, on its training cases alone.

    Parameters
    ----------
    dataset, configuration, plans
        The target, preprocessed.
    names
        Sources in the registry; default: all.
    settings
        Fold, number of cases and patches, seed, and scores reached on other targets.
    device
        Where features are computed.

    Returns
    -------
    list of RankedSource
        The best fitted-head Dice first; a random network is among them as the zero line.

    Raises
    ------
    TransferError
        If the target or a source that is named can't be read.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.rank_sources("Dataset021_ATLAS", "2d", "nnUNetPlans_resnet18")  # doctest: +SKIP
    [RankedSource(...), ...]
    """
    from nnunet_transfer.ranking.rank import rank_sources

    return rank_sources(dataset, configuration, plans, names, settings=settings, device=device)
