"""The report's templates, style and script."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup, escape

from nnunet_transfer.words import rounded

_DOI = re.compile(r"\b(doi[:\s]*)(10\.\d{4,9}/[^\s;,]*[^\s;,.])", re.IGNORECASE)
_P_VALUE = re.compile(r"\bp ([<=]) ")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nnunet_transfer.comparison"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["doi"] = link_dois
    environment.filters["unbroken"] = unbroken
    environment.filters["rounded"] = rounded
    return environment


def render(template: str, **values: object) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**values)


def link_dois(text: str) -> Markup:
    """Escape text and turn DOIs into links."""
    parts, end = [], 0
    for match in _DOI.finditer(text):
        doi = match[2]
        parts += [escape(text[end : match.start()]), escape(match[1])]
        parts.append(Markup('<a href="https://doi.org/{}">{}</a>').format(doi, doi))
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def unbroken(text: str) -> str:
    """Return text with non-breaking p-values."""
    return _P_VALUE.sub("p\u00a0\\1\u00a0", text)


def style() -> Markup:
    """Return the style sheet for inclusion in the page."""
    return Markup(_file("report.css"))


def script() -> Markup:
    """Return the script for inclusion in the page."""
    return Markup(_file("report.js"))


def _file(name: str) -> str:
    return resources.files("nnunet_transfer.comparison").joinpath(name).read_text(encoding="utf-8")
