"""The state dicts in a file: which one holds the weights to use, and which others there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from nnunet_transfer.checkpoints.several import note_on_others_than
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.words import shortened

#: keys of the weights in files, in order of preference; DINO's teacher is the better network (Caron et al., 2021)
_HOLDERS = ("network_weights", "state_dict", "teacher", "model_state_dict", "model", "net", "student", "network", "ema")
#: mappings inside one another, such as `model` and in it `state_dict`
_LEVELS = 3
#: networks that a message names, and characters of a name
_SHOWN, _LENGTH = 5, 100


def chosen_state_dict(content: Any) -> tuple[str, dict[str, torch.Tensor]]:
    """Return the keys of the weights in a file, joined by dots and empty if the file is a state dict, and the state dict.

    Weights are under the usual keys. Otherwise they are the only network in the file.

    Raises
    ------
    CheckpointError
        If there are none, or several networks and none under a usual key.
    """
    place, tensors = _under_usual_keys(content)
    if tensors:
        return place, tensors
    others = dict(_networks(content))
    if len(others) > 1:
        raise CheckpointError(
            f"holds several networks, under {shortened([place[:_LENGTH] for place in others], _SHOWN)}; save the state dict "
            f"of the one to use by itself"
        )
    for place, tensors in others.items():
        return place, tensors
    shown = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(f"holds no weights, only: {shown[:200]}")


def note_on_other_entries(content: Any, used: str) -> tuple[str, ...]:
    """Return a note on a file's other state dicts, such as a student's or averaged weights; empty without any.

    Parameters
    ----------
    used : keys of the weights, from `chosen_state_dict`
    """
    others = [place[:_LENGTH] or "no key" for place, _ in _networks(content) if place != used]
    return note_on_others_than(used[:_LENGTH] or "no key", others)


def _under_usual_keys(content: Any, levels: int = _LEVELS) -> tuple[str, dict[str, torch.Tensor]]:
    own = _tensors_of(content)
    if levels and isinstance(content, Mapping):
        for name in _HOLDERS:
            place, tensors = _under_usual_keys(content.get(name), levels - 1)
            # beside a network, a training may store a few tensors of its own
            if len(tensors) > len(own):
                return _inside(name, place), tensors
    return "", own


def _networks(content: Any, levels: int = _LEVELS) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Yield every state dict of a network: its keys, joined by dots, and its tensors."""
    tensors = _tensors_of(content)
    # an optimiser's state has tensors of the same shapes for each parameter, under names without dots
    if any("." in name and tensor.dim() in (4, 5) for name, tensor in tensors.items()):
        yield "", tensors
    if levels and isinstance(content, Mapping):
        for key, inner in content.items():
            if isinstance(key, str) and not key.startswith("optim"):
                yield from ((_inside(key, place), found) for place, found in _networks(inner, levels - 1))


def _inside(outer: str, inner: str) -> str:
    return f"{outer}.{inner}" if inner else outer


def _tensors_of(content: Any) -> dict[str, torch.Tensor]:
    """Return a network's tensors by name; empty if the content is something else."""
    if isinstance(content, torch.nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping):
        return {}
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    # settings of a training may contain a few tensors; a network has many
    return tensors if len(tensors) * 2 >= len(content) else {}
