"""Sources written by `sources publish` or from another registry, which have a complete card. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_transfer.checkpoints.downloads import public_address
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.plans.architectures import from_card
from nnunet_transfer.plans.classes import wrong_class
from nnunet_transfer.sources import Source, SourceCard
from nnunet_transfer.sources.card import CARD_FILE, read_card
from nnunet_transfer.sources.registry import WEIGHTS_FILE

if TYPE_CHECKING:
    from nnunet_transfer.checkpoints.add import Provenance

#: possible addresses of such a source
_ADDRESS = re.compile(rf"hf://[^/]+/[^/@]+(@.+)?|.+/{re.escape(WEIGHTS_FILE)}(@.+|\?.*)?")


def published_source(path: Path) -> Source | None:
    """Return the source in a folder, or beside a weights file with the usual name; None without a card.

    Raises
    ------
    SourceError
        If the card is damaged.
    CheckpointError
        If the card names a network or layer that neither nnU-Net nor this package has.
    """
    folder = path if path.is_dir() else path.parent
    if not (path.is_dir() or path.name == WEIGHTS_FILE) or not (folder / CARD_FILE).is_file():
        return None
    card = read_card(folder)
    if wrong := wrong_class(from_card(card.architecture)):
        raise CheckpointError(
            f"{folder / CARD_FILE} names {wrong}, which isn't a network or layer that plans may name; not read"
        )
    return Source(card, folder)


def may_be_published(location: str) -> bool:
    """Whether a path or address may contain such a source; addresses are not accessed."""
    return (
        _ADDRESS.fullmatch(location) is not None
        or (Path(location) / CARD_FILE).is_file()
        or (Path(location).name == WEIGHTS_FILE and Path(location).with_name(CARD_FILE).is_file())
    )


def own_card(card: SourceCard, name: str, task: str, domain: str, provenance: Provenance) -> SourceCard:
    """Return a published source's card, with fields that the user gives replaced."""
    said: Mapping[str, Any] = {
        "name": name,
        "task": task,
        "domain": domain,
        "licence": provenance.licence,
        "citation": provenance.citation,
        "trained_on": provenance.trained_on,
        "channel_names": provenance.channel_names,
    }
    extra = {**card.extra, "address": public_address(provenance.address)} if provenance.address else card.extra
    return replace(card, **{field: value for field, value in said.items() if value}, extra=extra)
