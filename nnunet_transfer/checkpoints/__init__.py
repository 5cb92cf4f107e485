"""Checkpoints: reading published weights safely and turning them into sources."""

from nnunet_transfer.checkpoints.add import Provenance, Reading, add_source, inspect_checkpoint

__all__ = ["Provenance", "Reading", "add_source", "inspect_checkpoint"]
