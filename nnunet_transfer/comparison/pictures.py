"""Slices of single cases as SVG: the image once, the reference and each prediction as contours."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from nnunet_transfer.comparison.orientation import Plane, bright, describe, planes, sample, views
from nnunet_transfer.errors import DataError
from nnunet_transfer.evaluation.masks import Volume, read_mask, read_volume

JPEG_QUALITY = 78
#: tolerance in pixels for simplifying a contour
SIMPLIFIED = 0.15
#: maximum aspect ratio used in the layout
WIDEST = 1.6
#: lengths of scale bars in mm
BARS = (100, 50, 20, 10, 5, 2, 1)
BAR_SHARE = 0.3
#: pictures with a lower ratio of height to width have no room for all marks
THIN = 0.3
#: width of a letter relative to the font size
_LETTER = 0.56
ELSEWHERE = "prediction outside these slices"
UNREADABLE, OTHER_SHAPE = "can't be read", "has another shape than the reference"


@dataclass(frozen=True)
class Panel:
    """The slices of one arm, or of the image alone, as SVG, and a note for the caption."""

    title: str
    svg: Markup
    note: str = ""


def case_panels(
    key: str, reference_file: Path, image_file: Path | None, predictions: Mapping[str, Path]
) -> tuple[list[Panel], bool]:
    """Draw one case.

    Parameters
    ----------
    key : prefix of the ids in the page
    reference_file, image_file : reference mask and image; without an image, the background is black
    predictions : title of an arm -> its mask

    Returns
    -------
    panels : first the image alone, then one panel per arm with the contours of reference (solid) and prediction (dashed)
    oriented : whether left and right are known
    """
    reference = read_mask(reference_file)
    masks = {title: read_mask(path) for title, path in predictions.items()}
    image, missing = _image(image_file, reference)
    foreground = reference.array > 0
    if not foreground.any():
        for mask in masks.values():
            if mask.array.shape == foreground.shape:
                foreground = foreground | (mask.array > 0)
    content, window = (None, (0.0, 1.0)) if image is None else bright(image)
    chosen = planes(reference, foreground, content)
    backgrounds = [_background(image, plane, window) for plane in chosen]
    cuts = [sample(reference, plane, smooth=False) for plane in chosen]
    bar = _bar(chosen)
    bare = [
        _svg(
            plane,
            f'<g id="{escape(key)}i{n}">{_image_element(backgrounds[n], plane)}{_marks(plane, bar)}</g>',
            f"{_where(plane)}, without contours",
        )
        for n, plane in enumerate(chosen)
    ]
    panels = [Panel("Image", Markup("").join(bare), missing)]
    for i, (title, mask) in enumerate(masks.items()):
        drawn, seen = [], False
        for n, plane in enumerate(chosen):
            cut = sample(mask, plane, smooth=False)
            seen |= bool(cut.any())
            outline = (
                f'<g id="{escape(key)}r{n}">{_outline(cuts[n], plane, "ref")}</g>'
                if i == 0
                else f'<use href="#{escape(key)}r{n}"/>'
            )
            inner = f'<use href="#{escape(key)}i{n}"/>{outline}{_outline(cut, plane, "pred")}'
            drawn.append(_svg(plane, inner, f"{title}, {_where(plane)}: {_areas(cuts[n], cut, plane)}"))
        panels.append(Panel(title, Markup("").join(drawn), "" if seen or not mask.array.any() else ELSEWHERE))
    return panels, views(reference)[0].name != "image"


def _image(path: Path | None, reference: Volume) -> tuple[Volume | None, str]:
    """Return an image on the grid of its reference, or why there is none: the contours can be drawn without it."""
    if path is None:
        return None, ""
    try:
        image = read_volume(path, colours=True)
    except DataError:
        return None, UNREADABLE
    return (image, "") if image.array.shape == reference.array.shape else (None, OTHER_SHAPE)


def _background(image: Volume | None, plane: Plane, window: tuple[float, float]) -> str:
    """Return the slice as a JPEG data URI; empty without an image."""
    if image is None:
        return ""
    from PIL import Image

    low, high = window
    values = np.clip((sample(image, plane, smooth=True) - low) / (high - low), 0, 1)
    buffer = io.BytesIO()
    Image.fromarray((values * 255).astype(np.uint8)).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _svg(plane: Plane, inner: str, label: str) -> Markup:
    width, height = plane.size
    return Markup(
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'style="--w:{min(width / height, WIDEST):.3f}">{inner}</svg>'
    )


def _image_element(uri: str, plane: Plane) -> str:
    width, height = plane.size
    box = f'width="{width:.1f}" height="{height:.1f}"'
    black = f"<rect {box}/>"
    return f'{black}<image href="{uri}" {box} preserveAspectRatio="none"/>' if uri else black


def _bar(chosen: Sequence[Plane]) -> int:
    """Return the length of the scale bar in mm, the same for all slices of a case."""
    narrowest = min((plane.size[0] for plane in chosen), default=0.0)
    return next((bar for bar in BARS if bar <= BAR_SHARE * narrowest), BARS[-1])


def _unit(plane: Plane) -> float:
    """Return one per cent of the height in mm; all slices of a case have the same height in the page."""
    width, height = plane.size
    return max(width / WIDEST, height) / 100


def _marks(plane: Plane, bar: int) -> str:
    """Return the letters at the edges, the position, and a scale bar of `bar` mm."""
    width, height = plane.size
    unit = _unit(plane)
    size = 5.5 * unit
    view = plane.view
    parts = []
    middle = height / 2 + size / 3
    marks = [(view.left, 1.5 * unit, middle, "start"), (view.right, width - 1.5 * unit, middle, "end")]
    thin = height < THIN * width
    if thin:
        marks.append((describe(plane), width / 2, middle, "middle"))
    else:
        marks += [
            (view.top, width / 2, size, "middle"),
            (view.bottom, width / 2, height - 1.5 * unit, "middle"),
            (describe(plane), 1.5 * unit, height - 1.5 * unit, "start"),
        ]
    for text, x, y, anchor in marks:
        if text:
            # in narrow pictures, the position is printed smaller so that it ends before the mark in the middle
            own = min(size, (width / 2 - x - size / 2) / (_LETTER * len(text))) if anchor == "start" else size
            place = f'x="{x:.1f}" y="{y:.1f}" font-size="{own:.1f}" text-anchor="{anchor}"'
            parts.append(f'<text class="mark" {place}>{escape(text)}</text>')
    if view.left and not thin:
        x, y = width - 2 * unit, height - 2 * unit
        parts.append(
            f'<path class="bar" stroke-width="{unit:.2f}" d="M{x:.1f} {y:.1f}h{-bar}"/>'
            f'<text class="mark" x="{x:.1f}" y="{y - 1.5 * unit:.1f}" font-size="{size:.1f}" text-anchor="end">{bar} mm</text>'
        )
    return "".join(parts)


def _outline(labels: NDArray[Any], plane: Plane, kind: str) -> str:
    """Return the contours of all labels: a dark line below a bright one, visible on any grey."""
    path = contour_path(labels, plane.pixel)
    if not path:
        return ""
    unit = _unit(plane)
    return (
        f'<path class="rim" stroke-width="{1.3 * unit:.2f}" d="{path}"/>'
        f'<path class="{kind}" stroke-width="{0.65 * unit:.2f}" d="{path}"/>'
    )


def contour_path(labels: NDArray[Any], pixel: float) -> str:
    """Return the outlines of all labels of a slice as the data of an SVG path, in mm from the upper left corner."""
    from skimage.measure import approximate_polygon, find_contours

    parts = []
    for value in np.unique(labels):
        if value:
            for line in find_contours(np.pad(labels == value, 1).astype(np.float32), 0.5):
                points = (approximate_polygon(line, SIMPLIFIED) - 0.5) * pixel
                parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points[:-1]) + "Z")
    return "".join(parts)


def _where(plane: Plane) -> str:
    position = describe(plane)
    return f"{plane.view.name} slice at {position}" if position else "image"


def _areas(reference: NDArray[Any], prediction: NDArray[Any], plane: Plane) -> str:
    square, unit = (1, "pixels") if plane.view.name == "image" else (plane.pixel**2 / 100, "cm²")
    known, found = reference > 0, prediction > 0
    same = (reference == prediction) & known
    return (
        f"reference {known.sum() * square:.1f} {unit}, prediction {found.sum() * square:.1f} {unit}, "
        f"of which {same.sum() * square:.1f} {unit} agree"
    )
