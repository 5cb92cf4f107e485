"""Valid values of the fields of a card. A card may come from anyone, and nnU-Net builds the network it describes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_transfer.sources.card import SourceCard

#: valid names of sources; without `__`, which separates the parts of nnU-Net's result folders
NAME = re.compile(r"(?!.*__)[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
NAME_RULE = "a source's name may have up to 100 letters, digits and, not first, '.', '_' and '-', but no '__'"
TASKS = ("classification", "segmentation", "self_supervised")
PARTS = ("encoder", "encoder+decoder")
#: the keys of an architecture, as in nnU-Net's plans; the last one is `_kw_requires_import` there
ARCHITECTURE_KEYS = ("network_class_name", "arch_kwargs", "arch_kwargs_req_import")
#: far above the values of any real network, so that a malicious card can't exhaust the memory
MAX_CHANNELS = 10_000
MAX_STAGES = 16
MAX_FEATURES = 1 << 16
MAX_LAYERS = 200
MAX_LAYERS_OF_ALL_STAGES = 400
MAX_STRIDE = 64
MAX_TEXT = 100_000
#: largest edge of a voxel in mm; the smallest is its inverse
MAX_SPACING = 1_000_000
MAX_ENTRIES = 1_000_000

#: key of a card's `extra`
LABEL_CHANNELS = "label_channels"

_Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _is_count(value: Any, largest: int, smallest: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= largest


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 / MAX_SPACING <= value <= MAX_SPACING


def _is_list(value: Any, check: _Check, largest: int = MAX_ENTRIES) -> bool:
    return isinstance(value, list | tuple) and len(value) <= largest and all(map(check, value))


#: field -> check of a value, and description of valid values
_FIELDS: Mapping[str, tuple[_Check, str]] = {
    **{
        name: (_is_text, "text")
        for name in ("task", "domain", "parts", "licence", "citation", "format", "sha256", "created_with")
    },
    "input_channels": (
        lambda value: _is_count(value, MAX_CHANNELS),
        f"a whole number, 1 or more, and at most {MAX_CHANNELS}",
    ),
    **{
        name: (lambda value: _is_list(value, _is_text), "a list of texts")
        for name in ("channel_names", "normalization_schemes", "trained_on", "trained_on_cases")
    },
    "spacing": (
        lambda value: _is_list(value, _is_size, 3),
        f"a list of up to 3 numbers of mm above 0 and up to {MAX_SPACING}",
    ),
    "patch_size": (
        lambda value: _is_list(value, lambda v: _is_count(v, MAX_FEATURES), 3),
        "a list of up to 3 whole numbers above 0",
    ),
    **{name: (lambda value: isinstance(value, Mapping), "a mapping") for name in ("architecture", "extra")},
}


def label_channels_of(extra: Mapping[str, Any], input_channels: int) -> int:
    """Return the number of a source's input channels that contain labels, from its card; 0 if missing or invalid."""
    value: Any = extra.get(LABEL_CHANNELS)
    return value if _is_count(value, input_channels - 1) else 0


def card_problems(card: SourceCard) -> Iterator[str]:
    """Yield the problems of a card, apart from its name."""
    wrong = [name for name, (check, _) in _FIELDS.items() if not check(getattr(card, name))]
    yield from (f"{name} is {_shown(getattr(card, name))}; it must be {_FIELDS[name][1]}" for name in wrong)
    if isinstance(card.architecture, Mapping) and any(key not in card.architecture for key in ARCHITECTURE_KEYS):
        yield f"the architecture needs {', '.join(ARCHITECTURE_KEYS)}"
    elif not wrong:
        yield from _contradictions(card)


def _contradictions(card: SourceCard) -> Iterator[str]:
    if card.task not in TASKS:
        yield f"task '{card.task}' is unknown; there are: {', '.join(TASKS)}"
    if card.parts not in PARTS:
        yield f"parts '{card.parts}' is unknown; there are: {', '.join(PARTS)}"
    if not card.domain.strip():
        yield "the domain is empty; say which images it was trained on, e.g. t1"
    images = card.input_channels - label_channels_of(card.extra, card.input_channels)
    if card.channel_names and len(card.channel_names) != images:
        yield f"{len(card.channel_names)} channel names for {images} input channels"
    yield from architecture_problems(card.architecture)


def architecture_problems(architecture: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of the settings in an architecture. The network itself checks for missing settings."""
    kwargs, imports = architecture["arch_kwargs"], architecture["arch_kwargs_req_import"]
    if not _is_text(architecture["network_class_name"]):
        yield "the architecture's network_class_name is not a string"
    if not isinstance(kwargs, Mapping) or not all(map(_is_text, kwargs)):
        yield "the architecture's arch_kwargs are not a mapping"
        return
    if not _is_list(imports, lambda key: _is_text(key) and key in kwargs):
        yield "the architecture's arch_kwargs_req_import is not a list of keys of its arch_kwargs"
    stages = kwargs.get("n_stages", 1)
    if not _is_count(stages, MAX_STAGES):
        yield f"the architecture's n_stages is {_shown(stages)}; it must be a whole number from 1 to {MAX_STAGES}"
        return
    for name in sorted(_PER_STAGE.keys() & kwargs.keys()):
        (check, entries), value = _PER_STAGE[name], kwargs[name]
        length = stages - 1 if name.endswith("_decoder") else stages
        if isinstance(value, list | tuple):
            fits = all(map(check, value)) and (len(value) == length or "n_stages" not in kwargs)
        else:
            fits = check(value)
        if not fits:
            yield f"the architecture's {name} is {_shown(value)}; it must be {entries} for {length} stages"
        elif name in _LAYERS and _total(value, length) > MAX_LAYERS_OF_ALL_STAGES:
            yield f"the architecture's {name} has {_total(value, length)} layers; no network has so many"
    for name, value in kwargs.items():
        if not _is_plain(value):
            yield f"the architecture's {name} is {_shown(value)}, which no network takes"


def _total(value: Any, length: int) -> int:
    return sum(value) if isinstance(value, list | tuple) else value * length


def _per_axis(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) in (2, 3) and all(_is_count(v, MAX_STRIDE) for v in value)
    return _is_count(value, MAX_STRIDE)


#: settings that count layers
_LAYERS = ("n_blocks_per_stage", "n_conv_per_stage", "n_conv_per_stage_decoder")
#: settings with one entry per stage, or one for all -> check of an entry, and description of valid entries
_PER_STAGE: Mapping[str, tuple[_Check, str]] = {
    **{
        name: (lambda value: _is_count(value, MAX_FEATURES), "numbers of channels")
        for name in ("features_per_stage", "bottleneck_channels")
    },
    **{name: (_per_axis, f"numbers per axis from 1 to {MAX_STRIDE}") for name in ("kernel_sizes", "strides")},
    **{
        name: (lambda value: _is_count(value, MAX_LAYERS, 0), f"numbers of layers up to {MAX_LAYERS}")
        for name in _LAYERS
    },
}


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Whether a setting consists of plain values, without deep nesting."""
    if isinstance(value, Mapping):
        return depth > 0 and len(value) <= 100 and all(_is_plain(v, depth - 1) for v in value.values())
    if isinstance(value, list | tuple):
        return depth > 0 and len(value) <= 100 and all(_is_plain(v, depth - 1) for v in value)
    if isinstance(value, int | float):
        return abs(value) <= MAX_FEATURES
    return value is None or _is_text(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
