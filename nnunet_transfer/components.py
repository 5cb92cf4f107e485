"""Connected components of a binary mask, such as the lesions of a label."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

#: 3D connectivity -> connectivity of the same neighbourhood in 2D
CONNECTIVITY_2D = {6: 4, 18: 8, 26: 8}


def label_components(mask: NDArray[np.bool_], connectivity: int) -> tuple[NDArray[Any], int]:
    """Number the connected components of a mask; fastest if the mask is contiguous, in C or Fortran order.

    Parameters
    ----------
    connectivity : 6, 18 or 26 neighbours; in 2D these mean 4, 8 and 8

    Returns
    -------
    labels : same shape, 0 outside, 1 ... n inside
    n : number of components
    """
    if not mask.any():
        return np.zeros(mask.shape, np.uint16), 0
    if mask.ndim == 2:
        connectivity = CONNECTIVITY_2D[connectivity]
    neighbours: Any = connectivity  # the package types these as literals
    # cc3d 4.1 expects at most half of an odd length along each axis, rounded down, and fails on single voxels in a line
    padded = np.pad(mask, (0, 1))
    labels, n = cc3d.connected_components(padded, connectivity=neighbours, return_N=True)
    return labels[tuple(map(slice, mask.shape))], int(n)
