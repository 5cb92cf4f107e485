"""Extensible tables: built-in entries, entries registered in a program, and entries of installed packages.

An installed package adds an entry with an entry point, whose name is the key and whose object is the value:

    [project.entry-points."nnunet_transfer.arms"]
    nnUNetTrainerCTSegmentation = "lab.arms:CT_SEGMENTATION"

Entry points are read when a name is looked up, never at import.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.words import joined

PREFIX = "nnunet_transfer"
T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A table of named things.

    Parameters
    ----------
    group : last part of the entry points' group, and the table's name in messages
    own : built-in entries, in the order of listings
    check : function that raises a `TransferError` for an invalid entry

    Examples
    --------
    >>> colours = Registry("colours", {"red": 1})
    >>> colours.register("green", 2)
    >>> list(colours), colours["green"]
    (['red', 'green'], 2)
    """

    def __init__(
        self, group: str, own: Mapping[str, T], check: Callable[[str, T], None] = lambda name, value: None
    ) -> None:
        self.group = group
        self.own = dict(own)
        self._check = check
        self._added: dict[str, T] = {}
        self._installed: dict[str, EntryPoint] | None = None

    def register(self, name: str, value: T) -> None:
        """Add an entry for this process.

        Raises
        ------
        SettingsError
            If another entry has this name.
        """
        if name in self and self[name] != value:
            raise SettingsError(f"{self.group}: there is already an entry {name}; choose another name")
        self._check(name, value)
        if name not in self.own:
            self._added[name] = value

    def unregister(self, name: str) -> None:
        """Remove an entry that `register` added."""
        self._added.pop(name, None)

    def __getitem__(self, name: str) -> T:
        for table in (self.own, self._added):
            if name in table:
                return table[name]
        self._added[name] = self._load(self._entry_points()[name])
        return self._added[name]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._added or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self.own, *self._added, *self._entry_points()))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._installed is None:
            found = entry_points(group=f"{PREFIX}.{self.group}")
            self._installed = {point.name: point for point in found if point.name not in self.own}
        return self._installed

    def _load(self, point: EntryPoint) -> T:
        of = f"the entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a package'}"
        try:
            value: T = point.load()
        except Exception as error:  # importing an installed package may raise any error
            raise SettingsError(
                f"{of} can't be used ({type(error).__name__}: {error}); correct or uninstall it"
            ) from error
        self._check(point.name, value)
        return value


def nearest(name: str, known: Iterable[str], *, most: int = 1, similarity: float = 0.6) -> list[str]:
    """Return the most similar of some names, best first.

    Parameters
    ----------
    most : maximum number of names
    similarity : minimum similarity from 0 to 1; 0.6 is the default of Python's `difflib`

    Examples
    --------
    >>> nearest("ful", ["full", "sawtooth"]), nearest("x", ["full", "sawtooth"])
    (['full'], [])
    """
    return difflib.get_close_matches(name, list(known), n=most, cutoff=similarity)


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1, otherwise: str = "") -> str:
    """Return the end of a message about an unknown name: names that start with it, or the most similar names, or all names.

    Parameters
    ----------
    most : maximum number of similar names
    otherwise : text if no name is similar; default: all names

    Examples
    --------
    >>> did_you_mean("sawtoth", ["full", "sawtooth"])
    'did you mean sawtooth?'
    >>> did_you_mean("saw", ["full", "sawtooth"])
    'did you mean sawtooth?'
    >>> did_you_mean("x", ["full", "sawtooth"])
    'there are: full, sawtooth'
    """
    known = list(known)
    begin = [other for other in known if name and other.startswith(name)]
    if near := begin[:most] or nearest(name, known, most=most):
        return f"did you mean {joined(near, 'or')}?"
    return otherwise or f"there are: {', '.join(known) or 'none'}"
