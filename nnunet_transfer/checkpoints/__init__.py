"""Checkpoints: reading published weights safely and turning them into sources."""

from nnunet_transfer.checkpoints.add import Provenance, Reading, add_source, check_name_free, inspect_checkpoint
from nnunet_transfer.checkpoints.downloads import downloaded, is_address

__all__ = [
    "Provenance",
    "Reading",
    "add_source",
    "check_name_free",
    "downloaded",
    "inspect_checkpoint",
    "is_address",
]
