"""Configurations of nnU-Net's plans, which may inherit settings from one another. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lineage(configurations: Mapping[str, Any], name: str) -> list[str]:
    """Return the name of a configuration and of those it inherits from, in order; each once, and the last may be missing."""
    names: list[str] = []
    following: Any = name
    while isinstance(following, str) and following not in names:
        names.append(following)
        own = configurations.get(following)
        following = own.get("inherits_from") if isinstance(own, Mapping) else None
    return names


def with_inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the settings of a configuration, including inherited ones; empty if there is no such configuration.

    Plans may come from anyone, so configurations that are missing or malformed have no settings.

    Examples
    --------
    >>> with_inherited({"a": {"spacing": 1, "batch_size": 2}, "b": {"inherits_from": "a", "spacing": 3}}, "b")
    {'spacing': 3, 'batch_size': 2, 'inherits_from': 'a'}
    """
    settings: dict[str, Any] = {}
    for ancestor in reversed(lineage(configurations, name)):
        own = configurations.get(ancestor)
        settings |= own if isinstance(own, Mapping) else {}
    return settings
