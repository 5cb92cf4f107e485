"""Pictures of restored patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_transfer.files import atomic_path

COLUMNS = ("patch", "as the network gets it", "restored")


@dataclass(frozen=True)
class Reconstruction:
    """One restored patch.

    Attributes
    ----------
    case : case identifier
    image, distorted, output : `(channel, *spatial)`, 2D or 3D
    """

    case: str
    image: np.ndarray
    distorted: np.ndarray
    output: np.ndarray


def _as_picture(patch: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the middle slice as `(y, x)` or, with three channels, `(y, x, rgb)`, scaled to 0-1."""
    if patch.ndim == 4:
        patch = patch[:, patch.shape[1] // 2]
    scaled = np.clip((patch - low) / max(high - low, 1e-6), 0, 1)
    return np.moveaxis(scaled, 0, -1) if len(scaled) == 3 else scaled[0]


def draw_reconstructions(path: Path, reconstructions: Sequence[Reconstruction]) -> None:
    """Write a PNG with one row per patch: the patch, the network's input, and its output.

    All three share the intensity window of the patch, its 0.5th to 99.5th percentile. Three channels are shown as red, green
    and blue; otherwise, the first channel is shown. 3D patches are shown by their middle slice.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    rows = len(reconstructions)
    # nnU-Net's plots in this process change fonts and colours in matplotlib's settings
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(7.2, 2.5 * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, len(COLUMNS), squeeze=False)
        for row, item in zip(axes, reconstructions, strict=True):
            low, high = (float(v) for v in np.percentile(item.image, (0.5, 99.5)))
            for cell, patch in zip(row, (item.image, item.distorted, item.output), strict=True):
                cell.imshow(_as_picture(patch, low, high), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                cell.set_xticks([])
                cell.set_yticks([])
            row[0].set_ylabel(item.case, fontsize=8)
        for cell, title in zip(axes[0], COLUMNS, strict=True):
            cell.set_title(title, fontsize=9)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)
