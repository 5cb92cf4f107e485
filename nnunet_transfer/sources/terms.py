"""Licences by name: Hugging Face's identifiers, and the terms of common licences. Not legal advice; no torch."""

from __future__ import annotations

import re

#: Hugging Face's identifiers, https://huggingface.co/docs/hub/repositories-licenses
_IDENTIFIERS = frozenset(
    (
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "pddl", "cc0-1.0"),
        *("cc-by-4.0", "cc-by-3.0", "cc-by-2.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-3.0"),
        *("cc-by-nc-2.0", "cc-by-nc-sa-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-2.0", "cc-by-nd-4.0"),
        *("cc-by-nc-nd-4.0", "cc-by-nc-nd-3.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "odbl"),
    )
)
_SHORT = {"cc0": "cc0-1.0", "apache": "apache-2.0", "apache-2": "apache-2.0"}
_RESEARCH = re.compile(r"\bnc\b|non-?commercial|research")
_NO_CHANGES = re.compile(r"\bnd\b|no-?deriv")
_ALIKE = re.compile(r"\bsa\b|\b[al]?gpl\b|share-?alike")


def licence_identifier(licence: str) -> str:
    """Return Hugging Face's identifier for a licence, or `other`."""
    name = re.sub(r"[\s_]+", "-", licence.strip().lower()).removesuffix("-licence").removesuffix("-license")
    name = _SHORT.get(name, name)
    return name if name in _IDENTIFIERS else "other"


def licence_note(licence: str) -> str:
    """Return one sentence on what a licence, judged by its name, requires of those who train from the weights."""
    name = re.sub(r"[\s_-]+", " ", licence.lower()) if licence else ""
    if name in ("", "unknown", "see the repository"):
        return "licence unknown: ask the publisher before you share what you train from it"
    asks = []
    if _RESEARCH.search(name.replace("non commercial", "noncommercial")):
        asks.append("non-commercial use only")
    if _NO_CHANGES.search(name):
        asks.append("changed weights must not be shared")
    if _ALIKE.search(name):
        asks.append("fine-tuned weights are shared under the same licence, if at all")
    if asks:
        return f"{licence}: {'; '.join(asks)}"
    known = licence_identifier(licence) != "other"
    return f"{licence}: {'may be shared and changed, with its notice' if known else 'read its terms'}"
