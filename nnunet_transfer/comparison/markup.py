"""HTML and LaTeX tables, and other markup of the report."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup, escape

from nnunet_transfer.words import rounded

#: characters that are special in LaTeX or missing in its default fonts -> their LaTeX code
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"{}\char96{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "−": "$-$",
    "≤": r"$\leq$",
    "→": r"$\to$",
    "·": r"$\cdot$",
    "µ": r"$\mu$",
    "°": r"$^\circ$",
    "³": r"$^3$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "<": r"$<$",
    ">": r"$>$",
    "²": r"$^2$",
    "×": r"$\times$",
}
LATEX |= {
    unicodedata.lookup(f"GREEK SMALL LETTER {name.upper()}"): rf"$\{name}$"
    for name in (
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "theta",
        "mu",
        "pi",
        "rho",
        "sigma",
        "tau",
        "phi",
        "chi",
        "omega",
    )
}
#: combining accents -> LaTeX's command
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
#: prints a character if the engine supports Unicode, otherwise its number: pdfLaTeX stops at unknown characters
OTHER_CHARACTER = r"\providecommand{\othercharacter}[2]{\ifdefined\Umathchar#1\else[U+#2]\fi}"
MISSING = "–"
#: tables with at most this many rows are not split between printed pages
SHORT = 20
#: smaller p-values are printed as "< 0.001"
SMALLEST_P = 0.001


@dataclass(frozen=True)
class Column:
    """A column of a printed table.

    Attributes
    ----------
    heading : heading of the column
    decimals : number of decimals
    low, high : columns with the limits of the interval, printed in the same cell
    count : column with the number of cases behind the value, printed if it differs from `n_cases`
    p_value : whether the column contains p-values
    sign : whether to print a plus sign before positive numbers
    """

    heading: str
    decimals: int = 0
    low: str = ""
    high: str = ""
    count: str = ""
    p_value: bool = False
    sign: bool = False


def cell(row: pd.Series, key: str, column: Column) -> str:
    """Return the text of one cell."""
    value = row[key]
    text = number(value, column) if isinstance(value, float) else str(value)
    if column.low and not math.isnan(row[column.low]):
        text += f" ({number(row[column.low], column)} to {number(row[column.high], column)})"
    if column.count and row[column.count] != row["n_cases"]:
        text += f" (n = {row[column.count]})"
    return text


def number(value: float, column: Column) -> str:
    """Return a number in the format of the column."""
    if math.isnan(value):
        return MISSING
    if column.p_value and value < SMALLEST_P:
        return f"< {SMALLEST_P}"
    return f"{rounded(value, column.decimals):{'+' if column.sign else ''}.{column.decimals}f}"


def html_table(
    frame: pd.DataFrame, columns: Mapping[str, Column], caption: str = "", *, folded: bool = False
) -> Markup:
    """Return a table that scrolls sideways on narrow pages.

    The first column contains the row headings; empty columns are left out.

    Parameters
    ----------
    folded : show only the caption until it is clicked
    """
    columns = {key: column for key, column in columns.items() if frame.empty or (frame[key] != "").any()}
    kinds = [' class="words"' if is_words(frame, key) else "" for key in columns]
    heads = "".join(
        f'<th scope="col"{kind}>{escape(column.heading)}</th>'
        for kind, column in zip(kinds, columns.values(), strict=True)
    )
    rows = []
    for _, row in frame.iterrows():
        # keep "< 0.001" on one line
        first, *others = [
            escape(cell(row, key, column)).replace("&lt; ", Markup("&lt;&nbsp;")) for key, column in columns.items()
        ]
        cells = "".join(f"<td{kind}>{text}</td>" for kind, text in zip(kinds[1:], others, strict=True))
        rows.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    name = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    label = f' role="region" aria-label="{escape(caption)}"' if caption else ""
    kind = "scroll short" if len(frame) <= SHORT else "scroll"
    table = (
        f'<div class="{kind}" tabindex="0"{label}><table>{name}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    if folded:
        table = f'<details class="folded"><summary>{escape(caption)}</summary>{table}</details>'
    return Markup(table)


def is_words(frame: pd.DataFrame, key: str) -> bool:
    """Whether a column contains words, which are left-aligned, instead of numbers."""
    return not pd.api.types.is_numeric_dtype(frame[key]) and any(
        isinstance(value, str) and any(map(str.isalpha, value)) for value in frame[key]
    )


def latex_table(frame: pd.DataFrame, columns: Mapping[str, Column], caption: str) -> str:
    """Return a LaTeX table environment, which needs the package booktabs."""
    lines = [
        " & ".join(latex(cell(row, key, column)) for key, column in columns.items()) for _, row in frame.iterrows()
    ]
    heads = " & ".join(latex(column.heading) for column in columns.values())
    alignment = "l" + "".join("l" if is_words(frame, key) else "r" for key in list(columns)[1:])
    text = "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(caption)}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *(rf"{line} \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
    return f"{OTHER_CHARACTER}\n{text}" if r"\othercharacter" in text else text


def latex(text: str) -> str:
    """Escape text for LaTeX; other characters become `OTHER_CHARACTER`.

    Line breaks and other white space become spaces; control characters are removed.
    """
    plain = unicodedata.normalize("NFC", " ".join(text.split()))
    plain = "".join(c for c in plain if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    # LaTeX merges two hyphens, quotes or commas into one character
    parts = [("{}" if c in "-',`" and plain[i - 1 : i] == c else "") + _latex_character(c) for i, c in enumerate(plain)]
    # and treats [ or * after the end of a row as an option
    if parts and parts[0] in ("[", "*"):
        parts[0] = f"{{{parts[0]}}}"
    return "".join(parts)


def _latex_character(character: str) -> str:
    if character in LATEX:
        return LATEX[character]
    if character.isascii():
        return character
    letter, *accents = list(unicodedata.normalize("NFD", character))
    if letter.isascii() and len(accents) == 1 and accents[0] in ACCENTS:
        letter = rf"\{letter}{{}}" if letter in "ij" else letter
        return rf"\{ACCENTS[accents[0]]}{{{letter}}}"
    compatible = unicodedata.normalize("NFKC", character)
    if compatible.isascii():
        return latex(compatible)
    return rf"\othercharacter{{{character}}}{{{ord(character):04X}}}"


def figure(image: str, caption: str, alt: str, *, inches: float, wide: bool = False, of: str = "") -> Markup:
    """Return an image with its caption; a wide one scrolls sideways on a narrow screen.

    Parameters
    ----------
    image : data URI
    alt : what the figure shows, for readers who don't see it
    inches : height of the drawing, which determines the printed height
    of : target of the figure, if several targets have a figure with this caption
    """
    kind = ' class="wide"' if wide else ""
    # scrolling elements must be reachable by keyboard
    focus = f' tabindex="0" role="region" aria-label="{escape(f"{of}: {caption}" if of else caption)}"' if wide else ""
    return Markup(
        f'<figure{kind}><div class="scroll"{focus}><img src="{image}" alt="{escape(alt)}" '
        f'style="--inches: {inches:.2f}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
