"""Sources: pre-trained networks and their provenance, stored in a registry of folders.

A source is a folder `<name>/` with `source.json` (the card) and `weights.safetensors`. Importing this package and
reading cards doesn't import torch.
"""

from nnunet_transfer.sources.card import SourceCard
from nnunet_transfer.sources.registry import Source, list_sources, load_source, save_source, source_names
from nnunet_transfer.sources.schema import TASKS

__all__ = ["TASKS", "Source", "SourceCard", "list_sources", "load_source", "save_source", "source_names"]
