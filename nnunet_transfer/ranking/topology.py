"""TopoTE: whether voxels with similar features have the same label. NumPy only.

Minimum spanning trees over voxels' features, of all classes in the decoder (GRTD) and about the classes' borders in the
encoder (LBTC). Definitions by the paper and its authors' code, where the paper leaves something open.

References
----------
Tang J et al., Topology-driven transferability estimation of medical foundation models for segmentation, MICCAI 2026,
arXiv:2602.23916; code: github.com/SPIresearch/TopoTE (35ad1b9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial.distance import cdist

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: voxels of a local tree around a border voxel, and border voxels per case
NEIGHBOURS, ANCHORS = 16, 50
#: standard deviations, in stages, of the weights of stages; the authors' are these, rounded
_DECODER_SPREAD, _ENCODER_SPREAD = 0.8, 0.9


def spanning_tree(distances: Floats) -> NDArray[np.int64]:
    """Return the edges, shape `(points - 1, 2)`, of a minimum spanning tree, by Prim's algorithm."""
    count = len(distances)
    parent = np.zeros(count, np.int64)
    cost = distances[0].astype(float).copy()
    outside = np.ones(count, bool)
    outside[0] = False
    edges = np.empty((max(0, count - 1), 2), np.int64)
    for number in range(count - 1):
        new = int(np.argmin(np.where(outside, cost, np.inf)))
        edges[number] = parent[new], new
        outside[new] = False
        nearer = outside & (distances[new] < cost)
        cost[nearer], parent[nearer] = distances[new][nearer], new
    return edges


def grtd(features: Floats, labels: Integers) -> float | None:
    """Return minus the global representation topology divergence, from -1 to 0.

    Of the tree's edges at a class's voxels, the length that its labels do not explain, as a share of all; the mean over
    classes. Labels explain an edge between two classes up to the median distance of all voxels, and none within a class.

    Parameters
    ----------
    features : shape `(voxels, channels)`
    labels : shape `(voxels,)`

    Returns
    -------
    value : None for a single class
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return None
    distances = cdist(features, features)
    limit = float(np.median(distances[np.triu_indices(len(distances), 1)]))
    first, second = spanning_tree(distances).T
    length = distances[first, second]
    explained = np.where(labels[first] == labels[second], 0.0, np.minimum(length, limit))
    shares = []
    for c in classes:
        own = (labels[first] == c) | (labels[second] == c)
        if (total := length[own].sum()) > 0:
            shares.append((total - explained[own].sum()) / total)
    return -float(np.mean(shares)) if shares else None


def lbtc(features: Floats, labels: Integers, anchors: Integers) -> float | None:
    """Return the local boundary-aware topological consistency, from 0 to 1.

    About each anchor, the voxels nearest to it in the features make a tree; the mean share of edges within a class, over
    the anchors with voxels of two classes about them.

    Parameters
    ----------
    features : shape `(voxels, channels)`
    labels : shape `(voxels,)`
    anchors : indices of voxels at the classes' borders

    Returns
    -------
    value : None without such anchors
    """
    shares = []
    for distances in cdist(features[anchors], features):
        near = np.argsort(distances, kind="stable")[:NEIGHBOURS]
        if len(np.unique(labels[near])) > 1:
            first, second = near[spanning_tree(cdist(features[near], features[near]))].T
            shares.append(float(np.mean(labels[first] == labels[second])))
    return float(np.mean(shares)) if shares else None


def borders(labels: Integers) -> NDArray[np.bool_]:
    """Return the voxels of each foreground class that touch another class along an axis, in the shape of `labels`."""
    cross = generate_binary_structure(labels.ndim, 1)
    found = np.zeros(labels.shape, bool)
    for c in np.unique(labels):
        if c:
            found |= (labels == c) & ~binary_erosion(labels == c, cross, border_value=1)
    return found


def over_stages(values: Sequence[float | None], *, encoder: bool) -> float:
    """Return the mean of stages' values with the authors' weights, which favour the middle; NaN where there is none.

    Parameters
    ----------
    values : of the encoder's stages from the image down, or of the decoder's from the bottom up
    """
    centre = len(values) / 2 if encoder else (len(values) - 1) / 2
    spread = _ENCODER_SPREAD if encoder else _DECODER_SPREAD
    known = [(math.exp(-(((i - centre) / spread) ** 2) / 2), v) for i, v in enumerate(values) if v is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if total else math.nan


def fused(global_scores: Sequence[float], local_scores: Sequence[float], classes: int) -> list[float]:
    """Return TopoTE of all sources: both scores, each scaled to 0 to 1 over the sources, weighted by the number of classes.

    With one foreground class the local score counts alone; with more the global one gains.

    Parameters
    ----------
    classes : of the foreground
    """
    share = math.tanh(math.log(max(1, classes)) / 2)
    scaled = [_scaled(scores) for scores in (global_scores, local_scores)]
    return [
        local if not share else share * overall + (1 - share) * local for overall, local in zip(*scaled, strict=True)
    ]


def _scaled(scores: Sequence[float]) -> list[float]:
    known = [score for score in scores if not math.isnan(score)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return [(score - low) / (high - low) if high > low else 0.0 * score for score in scores]
