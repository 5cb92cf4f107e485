"""Read YAML with line numbers for error messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nnunet_transfer.errors import DataError, StudyError
from nnunet_transfer.files import read_text

#: limit of the number of parts, because a few nested aliases (*) expand to millions
_MOST_PARTS = 100_000
#: maximum size of a study file in bytes
_MOST_BYTES = 4 << 20
_LARGEST = 1 << 63
#: whole numbers that YAML reads in another base than they seem to have: 012 is 10, and 1:30 is 90
_OTHER_BASE = re.compile(r"[-+]?0[0-9_]+|.*:.*")
_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))
#: keys and list positions from the top of the document
Place = tuple[str | int, ...]
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and the line number of each part, from 1."""

    path: Path
    content: Any
    lines: Mapping[Place, int]

    def line(self, place: Sequence[str | int]) -> int:
        """Return the line of a part, or of the nearest part that contains it."""
        place = tuple(place)
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Sequence[str | int], message: str) -> StudyError:
        """Return an error that names file, line and part."""
        part = ".".join(map(str, place))
        text = f"{self.path.name}, line {self.line(place)}: {f'{part}: ' if part else ''}{message}"
        # keys may contain line breaks
        return StudyError(" ".join(text.split()))


class _Loader(yaml.SafeLoader):
    """YAML loader that doesn't convert words to dates, which would be unexpected in names and versions."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises
    ------
    StudyError
        If the file is missing, not YAML, empty, or has a duplicate key.
    """
    if not path.exists():
        raise StudyError(f"{path} does not exist; write one with `nnunet_transfer study init {path}`")
    try:
        text = read_text(path, limit=_MOST_BYTES)
    except DataError as error:
        raise StudyError(f"{path} is not a text file ({error}); give a study file") from None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise StudyError(f"{path} is empty; write one with `nnunet_transfer study init FILE`")
        lines: dict[Place, int] = {}
        _note_lines(root, (), lines, path, set())
        document = Document(path, loader.construct_document(root), lines)
        _check_numbers(document, document.content, ())
        return document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise StudyError(f"{path.name}{where}: invalid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError(f"{path.name}: invalid YAML: {' '.join(str(error).split())}") from None


def _check_node(node: yaml.Node, path: Path) -> None:
    """Refuse what no study contains: dates and sets by a tag (!!), numbers in other bases, characters no file can contain."""
    line = node.start_mark.line + 1
    if node.tag not in _TAGS:
        raise StudyError(f"{path.name}, line {line}: invalid YAML: the tag {node.tag.replace(_TAG, '!!')}; remove it")
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _NUMBERS and _OTHER_BASE.fullmatch(node.value):
            raise StudyError(
                f"{path.name}, line {line}: to YAML, {node.value[:100]} isn't the number that it seems to be; write a number "
                "without leading zeros or colons, or put text in quotes"
            )
        if "\0" in node.value:
            raise StudyError(f"{path.name}, line {line}: holds a NUL character; remove it")
        try:
            node.value.encode()
        except UnicodeEncodeError:
            raise StudyError(
                f"{path.name}, line {line}: holds half a character (a lone surrogate); remove it"
            ) from None


def _check_numbers(document: Document, content: Any, place: Place) -> None:
    """Refuse infinity, what is not a number, and numbers beyond 64 bits."""
    if isinstance(content, dict):
        for key, value in content.items():
            _check_numbers(document, value, (*place, key))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            _check_numbers(document, value, (*place, i))
    elif isinstance(content, int | float) and not abs(content) < _LARGEST:
        raise document.error(place, "must be a finite number, and not beyond 64 bits")


def _note_lines(node: yaml.Node, place: Place, lines: dict[Place, int], path: Path, open_nodes: set[int]) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if id(node) in open_nodes:
        raise StudyError(f"{path.name}, line {node.start_mark.line + 1}: an alias (*) refers to itself")
    if len(lines) > _MOST_PARTS:
        raise StudyError(f"{path.name}: more than {_MOST_PARTS} parts; use fewer aliases (*)")
    _check_node(node, path)
    open_nodes.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            _check_node(key, path)
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                raise StudyError(
                    f"{path.name}, line {line}: the key {str(key.value)[:100]} is not text; put quotes around it"
                )
            if inner in lines:
                raise StudyError(
                    f"{path.name}, line {line}: {'.'.join(map(str, inner))} is given twice (first in line {lines[inner]})"
                )
            lines[inner] = line
            _note_lines(value, inner, lines, path, open_nodes)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note_lines(value, (*place, i), lines, path, open_nodes)
    open_nodes.discard(id(node))
