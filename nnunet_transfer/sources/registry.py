"""The registry: a folder of sources. Torch is only imported to read or write tensors."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_transfer.errors import DataError, SettingsError, SourceError, one_line
from nnunet_transfer.files import atomic_folder, sha256_of
from nnunet_transfer.paths import sources_folder
from nnunet_transfer.registration import did_you_mean
from nnunet_transfer.sources.card import CARD_FILE, SourceCard, read_card
from nnunet_transfer.sources.keys import canonical
from nnunet_transfer.sources.schema import NAME

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Source:
    """A source on disk.

    Attributes
    ----------
    card
        Its card.
    folder
        The folder that contains `source.json` and `weights.safetensors`.
    """

    card: SourceCard
    folder: Path

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.folder / WEIGHTS_FILE

    def verify(self) -> None:
        """Compare the weights file with the checksum in the card.

        Raises
        ------
        SourceError
            If the file is missing, can't be read or has changed since it was saved.
        """
        try:
            found = sha256_of(self.weights) if self.weights.is_file() else ""
        except OSError as error:
            raise SourceError(
                f"source {self.card.name}: {self.weights} can't be read ({error.strerror}); check who may read it"
            ) from None
        if not found:
            raise SourceError(f"source {self.card.name} has no {WEIGHTS_FILE} in {self.folder}; add it again")
        if found != self.card.sha256:
            raise SourceError(
                f"source {self.card.name}: {self.weights} was changed (sha256 {found[:12]}, its card says "
                f"{self.card.sha256[:12] or 'none'}); restore the file or add the source again"
            )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors by canonical name, memory-mapped, after verifying the checksum.

        Raises
        ------
        SourceError
            If the file is missing, changed or damaged.
        """
        from nnunet_transfer.sources.weights import read_weights

        self.verify()
        try:
            return read_weights(self.weights)
        except SourceError as error:
            raise SourceError(f"source {self.card.name}: {error}") from None


def save_source(card: SourceCard, tensors: Mapping[str, torch.Tensor], *, overwrite: bool = False) -> Path:
    """Write a source to the registry, atomically.

    Parameters
    ----------
    card : card of the source; `sha256` is set here
    tensors : state dict; prefixes of wrappers and nnU-Net's aliases are removed
    overwrite : replace a source with the same name

    Returns
    -------
    Path
        The source's folder.

    Raises
    ------
    SourceError
        If the name is taken, or a tensor has NaN or infinite values in 32 bits or is not a floating-point number.
    """
    from nnunet_transfer.sources.weights import write_weights

    named = _checked(card.name, tensors)
    folder = sources_folder() / card.name
    try:
        # if several processes save the same name at the same time, exactly one succeeds
        with atomic_folder(folder, overwrite=overwrite) as temporary:
            sha256 = write_weights(named, temporary / WEIGHTS_FILE)
            replace(card, sha256=sha256).write(temporary)
    except DataError:
        raise SourceError(
            f"source {card.name} already exists in {folder}; choose another name or overwrite it"
        ) from None
    return folder


def _checked(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors by canonical name, contiguous and without shared storage."""
    check_types(f"source {name}", tensors)
    named: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for key, tensor in canonical(tensors).items():
        own = tensor.detach().cpu().contiguous()
        pointer = own.untyped_storage().data_ptr()
        named[key] = own.clone() if pointer in storages else own
        storages.add(pointer)
    if not named:
        raise SourceError(f"source {name} would have no tensors; nothing was saved")
    return named


def check_types(what: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise a `SourceError` for weights that are not floating-point numbers of a type that sources may have."""
    from nnunet_transfer.sources.weights import DTYPES

    for key, tensor in tensors.items():
        if tensor.dtype not in DTYPES or not (tensor.is_floating_point() or key.endswith("num_batches_tracked")):
            raise SourceError(f"{what}: {key} is of type {tensor.dtype}; weights must be floating-point numbers")


def load_source(source: str | os.PathLike[str]) -> Source:
    """Open a source by its registry name, or by its folder.

    Only the card is read; `Source.tensors` checks and reads the weights. In the registry, a source's name is that of its
    folder, which may have been renamed.

    Raises
    ------
    SourceError
        If the source doesn't exist, or its card is damaged.
    """
    registry = None
    if isinstance(source, str) and NAME.fullmatch(source):
        registry = sources_folder()
        folder = registry / source
    else:
        folder = Path(source)
    try:
        exists = (folder / CARD_FILE).is_file()
    except PermissionError:
        raise SourceError(f"{folder} can't be read (permission denied); check who may read it") from None
    if exists:
        card, name = read_card(folder), registered_name(folder)
        return Source(replace(card, name=name) if name else card, folder)
    if registry is None:
        raise SourceError(f"{folder} holds no source ({CARD_FILE} is missing); see `nnunet_transfer sources list`")
    raise SourceError(
        f"no source {source} in {registry} ({did_you_mean(str(source), _names(registry))}); make it with a pretrainer "
        f"(nnUNetv2_train -tr nnUNetPretrainer...) or add it with `nnunet_transfer sources add`"
    )


def registered_name(folder: Path) -> str:
    """Return the name of a source's folder in the registry; empty for a folder elsewhere."""
    try:
        registry = sources_folder()
    except SettingsError:  # without a registry, all folders are elsewhere
        return ""
    own = Path(os.path.abspath(folder))  # the folder itself may be a link
    return own.name if own.parent.resolve() == registry.resolve() and NAME.fullmatch(own.name) else ""


def list_sources() -> list[SourceCard]:
    """Return the cards of all sources in the registry, sorted by name; damaged cards are logged and left out.

    The name is that of the folder, which may have been renamed.
    """
    cards = []
    registry = sources_folder()
    for name in source_names():
        try:
            cards.append(replace(read_card(registry / name), name=name))
        except SourceError as error:
            log.warning("%s", one_line(error))
    return cards


def source_names() -> list[str]:
    """Return the names of all sources in the registry, sorted, also of those with a damaged card."""
    return _names(sources_folder())


def _names(registry: Path) -> list[str]:
    if not registry.is_dir():
        return []
    return sorted(d.name for d in registry.iterdir() if NAME.fullmatch(d.name) and _may_hold_card(d))


def _may_hold_card(folder: Path) -> bool:
    """Whether a card is in a folder; also true of another user's folder that can't be read, so that it doesn't go unsaid."""
    try:
        os.lstat(folder / CARD_FILE)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
