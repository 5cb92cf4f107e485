"""Path patterns with named fields."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"\{(?P<field>[a-z_]+)(?::(?P<regex>(?:[^{}]|\{[0-9,]+\})+))?\}|(?P<special>[*\[\]])|(?P<text>[^{}*\[\]]+)"
)
#: parts of volumes' endings, escaped
_ENDING = re.compile(r"\\\.(?:nii|gz|mgz|mgh)(?![^\\])")
_SPECIAL = {"*": "[^/]*", "[": "(?:", "]": ")?"}


class Pattern:
    """A path below a data set's root, with `/` between folders.

    `{subject}` matches one or more characters within the name of a folder or file; if a field occurs again, it must match
    the same text. `{session:[0-9]+}` restricts a field by a regular expression. `*` matches any text within a name, and
    `[.gz]` is optional. Endings such as `.nii` match in any case. A pattern may match below further folders, so users may
    give any parent folder as the root.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields: tuple[str, ...] = ()
        self._regex = re.compile(rf"(?P<above>(?:.*/)?){self._translate()}")

    def _translate(self) -> str:
        parts, end = [], 0
        for token in _TOKEN.finditer(self.text):
            if token.start() != end:
                break
            end = token.end()
            parts.append(self._translate_token(token))
        if end != len(self.text):
            raise ValueError(f"{self.text}: not a pattern from position {end} on")
        return "".join(parts)

    def _translate_token(self, token: re.Match[str]) -> str:
        name = token["field"]
        if not name:
            return _SPECIAL[token["special"]] if token["special"] else _escaped(token["text"])
        if name in self.fields:
            return f"(?P={name})"
        self.fields = (*self.fields, name)
        return f"(?P<{name}>{token['regex'] or '[^/]+?'})"

    def match(self, path: str) -> tuple[str, dict[str, str]] | None:
        """Return the folder above the pattern and the fields' values, None if the path doesn't match."""
        found = self._regex.fullmatch(path)
        if not found:
            return None
        fields = found.groupdict()
        return fields.pop("above"), {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        """Return the pattern for messages, without regular expressions."""
        return re.sub(r"\{([a-z_]+):(?:[^{}]|\{[0-9,]+\})+\}", r"{\1}", self.text)


def _escaped(text: str) -> str:
    return _ENDING.sub(lambda ending: f"(?i:{ending[0]})", re.escape(text))
