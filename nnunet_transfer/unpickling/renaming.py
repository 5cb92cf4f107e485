"""Renaming keys with a user's regular expressions. Some expressions never end on some keys, and Python can't limit their time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nnunet_transfer.unpickling.limits import MAX_KEY, RefusedError


def renamed(keys: Sequence[str], rules: Sequence[tuple[int, str, str]]) -> tuple[list[str], list[int]]:
    """Return each key after all rules, each applied once in order, and the lines of rules that match no key.

    Parameters
    ----------
    rules : line number, regular expression, replacement

    Raises
    ------
    RefusedError
        If a line is not a rule, or a key grows without bounds.
    """
    compiled = []
    for line, pattern, replacement in rules:
        try:
            expression = re.compile(pattern)
            expression.sub(replacement, "")
        except (re.error, IndexError, OverflowError, RecursionError) as error:
            raise RefusedError(
                f"line {line}: '{pattern[:100]} = {replacement[:100]}' is not a rule ({error})"
            ) from None
        compiled.append((line, expression, replacement))
    names = []
    unused = {line for line, _, _ in compiled}
    for key in keys:
        name = key
        for line, expression, replacement in compiled:
            name, matches = expression.subn(replacement, name)
            if matches:
                unused.discard(line)
            if len(name) > MAX_KEY:
                raise RefusedError(f"line {line}: makes a name of {len(name)} characters of {key[:100]}")
        names.append(name)
    return names, sorted(unused)
