"""T1-like images from label maps, by the generator of the package cornucopia (Billot et al. 2023's method).

The parameters of a case are drawn here, with NumPy, so that they can be recorded; fields and noise are cornucopia's.

References
----------
Billot B et al., SynthSeg, Med Image Anal 2023;86:102789, doi 10.1016/j.media.2023.102789.
Balbastre Y, cornucopia, https://github.com/balbasty/cornucopia.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.synthetic.tissues import TISSUES, Numbering

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Profile:
    """The ranges that a case's parameters are drawn from; lengths in mm.

    Attributes
    ----------
    any_contrast : whether a cluster's mean is anything, or its tissue's on T1
    texture : standard deviation within a cluster, in units of the white matter's intensity
    rotation : degrees about each axis, either way
    zoom, shear : about 1 and 0, either way
    elastic : largest displacement, as a share of the field of view
    bias : largest deviation of the bias field from 1
    gamma : standard deviation of the exponent's logarithm
    blur : full width at half maximum, mm
    thickness : mm of the acquired slices or voxels, at most
    noise : standard deviation in units of the brightest intensity
    """

    any_contrast: bool
    texture: tuple[float, float] = (0.01, 0.06)
    rotation: float = 15.0
    zoom: float = 0.15
    shear: float = 0.012
    elastic: float = 0.04
    bias: float = 0.3
    gamma: float = 0.15
    blur: float = 1.5
    thickness: float = 4.0
    noise: tuple[float, float] = (0.005, 0.06)


PROFILES: Mapping[str, Profile] = {
    "t1": Profile(any_contrast=False),
    "any-contrast": Profile(
        any_contrast=True, texture=(0.01, 0.1), bias=0.5, gamma=0.4, blur=3.0, thickness=6.0, noise=(0.005, 0.1)
    ),
}


@dataclass(frozen=True)
class Drawn:
    """The parameters of one case; see `Profile` for units.

    Attributes
    ----------
    means, textures : cluster -> mean and standard deviation of its intensities
    elastic_nodes, bias_nodes : control points per axis
    thick_axis : axis of thick slices; None for isotropic voxels of `thickness`
    """

    means: dict[str, float]
    textures: dict[str, float]
    rotation: tuple[float, float, float]
    zoom: tuple[float, float, float]
    shear: tuple[float, float, float]
    elastic: float
    elastic_nodes: int
    bias: float
    bias_nodes: int
    gamma: float
    blur: float
    thickness: float
    thick_axis: int | None
    noise: float

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into the manifest."""
        return asdict(self)


def draw_parameters(numbering: Numbering, clusters: Sequence[str], profile: Profile, rng: np.random.Generator) -> Drawn:
    """Draw the parameters of a case whose label map has these clusters."""

    def either_way(limit: float) -> tuple[float, float, float]:
        x, y, z = rng.uniform(-limit, limit, 3).round(5).tolist()
        return x, y, z

    means = {}
    for cluster in clusters:
        tissue = TISSUES[numbering.tissues[cluster]]
        value = rng.uniform(0, 1) if profile.any_contrast else rng.normal(tissue.mean, tissue.spread)
        means[cluster] = round(float(np.clip(value, 0.02, 1.5)), 4)
    return Drawn(
        means=means,
        textures={c: round(float(rng.uniform(*profile.texture)), 4) for c in clusters},
        rotation=either_way(profile.rotation),
        zoom=either_way(profile.zoom),
        shear=either_way(profile.shear),
        elastic=round(float(rng.uniform(0, profile.elastic)), 5),
        elastic_nodes=int(rng.integers(4, 10)),
        bias=round(float(rng.uniform(0, profile.bias)), 4),
        bias_nodes=int(rng.integers(3, 7)),
        gamma=round(float(np.exp(rng.normal(0, profile.gamma))), 4),
        blur=round(float(rng.uniform(0, profile.blur)), 3),
        thickness=round(float(rng.uniform(0.5, profile.thickness)), 3),
        thick_axis=[None, 0, 1, 2][int(rng.integers(4))],
        noise=round(float(rng.uniform(*profile.noise)), 4),
    )


@dataclass(frozen=True)
class Synthesized:
    """An image of shape `(x, y, z)` with the deformed label map; `lesion` is deformed with it."""

    image: Image
    labels: NDArray[np.int32]
    lesion: NDArray[np.bool_]


Paste = Callable[[Image, NDArray[np.int32], NDArray[np.bool_]], tuple[Image, NDArray[np.bool_]]]


def generate(
    labels: NDArray[np.int32],
    lesion: NDArray[np.bool_],
    spacing: NDArray[np.float64],
    numbering: Numbering,
    drawn: Drawn,
    seed: int,
    paste: Paste | None = None,
) -> Synthesized:
    """Make an image: deform, draw intensities, paste the lesion, then bias field, gamma, blur, resolution and noise.

    The same arguments give the same image, whatever else this process does.

    Parameters
    ----------
    labels : values of the label map
    spacing : mm per axis
    paste : gives image and lesion for the image without artefacts, the deformed labels and the deformed lesion

    Raises
    ------
    SettingsError
        If cornucopia is not installed.
    """
    cc = load_cornucopia()
    import torch

    order = list(drawn.means)
    index = {cluster: i for i, cluster in enumerate(order, start=1)}
    with _seeded(seed), torch.no_grad():
        stack = torch.from_numpy(np.stack([labels, lesion.astype(np.int32)]).astype(np.int64))
        deform = cc.AffineElasticTransform(
            drawn.elastic,
            drawn.elastic_nodes,
            rotations=drawn.rotation,
            zooms=drawn.zoom,
            shears=drawn.shear,
            bound="zeros",
            order=1,
            nearest_if_label=True,
        )
        moved = deform(stack).numpy().astype(np.int32)
        own = sorted(v for v in np.unique(moved[0]).tolist() if v)
        clusters = np.zeros(moved[0].shape, np.int64)
        for value in own:
            clusters[moved[0] == value] = index[numbering.clusters[value]]
        mixture = cc.GaussianMixtureTransform(
            [0.0, *(drawn.means[c] for c in order)],
            [0.0, *(drawn.textures[c] for c in order)],
            background=0,
        )
        image = mixture(torch.from_numpy(clusters)[None])[0].numpy().astype(np.float32)
        mask = moved[1] > 0
        if paste is not None and mask.any():
            image, mask = paste(image, moved[0], mask)
        image = _with_artefacts(cc, torch.from_numpy(image)[None], drawn, spacing)[0].numpy()
    return Synthesized(image.astype(np.float32), moved[0], mask)


def _with_artefacts(cc: ModuleType, image: Any, drawn: Drawn, spacing: NDArray[np.float64]) -> Any:
    noise = cc.ChiNoiseTransform(drawn.noise)
    steps = [
        cc.MulFieldTransform(drawn.bias_nodes, vmin=1 - drawn.bias, vmax=1 + drawn.bias, order=1),
        cc.GammaTransform(drawn.gamma),
    ]
    if drawn.blur:
        steps.append(cc.SmoothTransform((drawn.blur / spacing).tolist()))
    thick = np.maximum(1.0, drawn.thickness / spacing).tolist()
    if max(thick) == 1:
        steps.append(noise)
    elif drawn.thick_axis is None:
        steps.append(cc.LowResTransform(thick, noise=noise))
    else:
        steps.append(cc.LowResSliceTransform(thick[drawn.thick_axis], axis=drawn.thick_axis, noise=noise))
    for step in steps:
        image = step(image)
    return image


def load_cornucopia() -> ModuleType:
    """Import cornucopia, which brings torch along.

    Raises
    ------
    SettingsError
        If it is not installed.
    """
    try:
        import cornucopia
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"synthetic images need the package {error.name}; install it with: pip install 'nnunet_transfer[synthesize]'"
        ) from None
    return cornucopia


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what cornucopia draws from, on one thread; leave both as they were."""
    import torch

    state, threads = random.getstate(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)  # sums in another order would give other last digits
            torch.manual_seed(seed)
            random.seed(seed)
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(state)
