"""Fit output layers: from the features and labels of some voxels to the weights of a 1x1 convolution.

Pure functions of tensors. A head maps the features x of a voxel, shape (channels,), to logits W x + b, shape (classes,).
It starts at linear discriminant analysis (LDA) and is refined by L-BFGS on nnU-Net's own loss, soft Dice and cross-entropy
over the same voxels. A voxel stands for `weight` voxels, so that voxels may be sampled at different rates.

References
----------
Fisher (1936), "The use of multiple measurements in taxonomic problems", doi:10.1111/j.1469-1809.1936.tb02137.x (LDA);
Liu and Nocedal (1989), "On the limited memory BFGS method for large scale optimization", doi:10.1007/BF01589116;
Kumar et al. (ICLR 2022), arXiv:2202.10054, and Tomihari and Sato (2024), arXiv:2405.16747: why fine-tuning keeps more of
the features if it starts at a good head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

#: share of the mean diagonal of the within-class covariance that is added to its diagonal
RIDGE = 0.01
#: the least within-class variance that isn't taken for rounding errors, as a share of the total variance: features may be
#: constant within classes, or altogether
ROUNDING = 1e-8
#: strength of the penalty on squared weights of whitened features, which only bounds separable problems
PENALTY = 1e-5
#: maximum number of L-BFGS iterations
ITERATIONS = 60
#: probability that a head gives to a class without voxels, relative to the most frequent class
ABSENT = 0.01
#: exponents of the class frequencies in LDA's prior; the one with the lowest loss is refined
PRIOR_EXPONENTS = (1.0, 0.5, 0.0)
#: most features (voxels x channels) that are converted to float64 at once, those of nnU-Net's widest layers, and the size of
#: the parts otherwise
WHOLE, PART = 32_768 * 320, 2**21


@dataclass(frozen=True)
class LossTerms:
    """The parameters of nnU-Net's compound loss.

    Attributes
    ----------
    cross_entropy, dice : weights of the two terms
    smooth : added to numerator and denominator of the soft Dice
    regions : one sigmoid per region instead of one softmax over classes
    background : whether class 0 counts in the Dice
    summed : whether the cross-entropy is summed over regions, as in nnU-Net with an ignore label
    """

    cross_entropy: float = 1.0
    dice: float = 1.0
    smooth: float = 1e-5
    regions: bool = False
    background: bool = False
    summed: bool = False


@dataclass(frozen=True)
class Voxels:
    """Features and labels of sampled voxels.

    Attributes
    ----------
    features : float32, shape (voxels, channels)
    targets : float32 in {0, 1}, shape (voxels, classes): one class per voxel, or any number of regions
    weights : float32, shape (voxels,): number of voxels that each one represents
    groups : int64, shape (voxels,): index, from 0, of the batch or patch over which Dice is computed
    shares : float32, shape (voxels,): weight of each voxel in the mean cross-entropy; the sum is 1
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    groups: Tensor
    shares: Tensor

    @classmethod
    def of(
        cls, features: Tensor, targets: Tensor, weights: Tensor | None = None, groups: Tensor | None = None
    ) -> Voxels:
        """Return voxels, by default in one group and with equal weights.

        Parameters
        ----------
        features : shape (voxels, channels)
        targets : class of each voxel, integers of shape (voxels,), or regions of shape (voxels, classes)
        """
        count = len(features)
        if targets.ndim == 1:
            targets = functional.one_hot(targets.long())
        weights = features.new_ones(count) if weights is None else weights
        groups = torch.zeros(count, dtype=torch.long, device=features.device) if groups is None else groups
        return cls(features, targets.to(features), weights, groups, weights / weights.sum())


@dataclass(frozen=True)
class Head:
    """A fitted output layer.

    Attributes
    ----------
    weight : shape (classes, channels)
    bias : shape (classes,)
    loss : loss on the voxels of the fit
    absent : classes that don't occur in these voxels
    """

    weight: Tensor
    bias: Tensor
    loss: float
    absent: tuple[int, ...] = ()


def loss_of(logits: Tensor, voxels: Voxels, terms: LossTerms) -> Tensor:
    """Return nnU-Net's loss, estimated from weighted voxels: mean over groups of -Dice, plus cross-entropy.

    Parameters
    ----------
    logits : shape (voxels, classes)
    """
    return _loss(logits, voxels, terms, _group_matrix(voxels))


def constant_loss(voxels: Voxels, terms: LossTerms) -> float:
    """Return the loss of a head that predicts the class frequencies, without features."""
    return float(loss_of(_constant_logits(voxels, terms).expand(len(voxels.targets), -1), voxels, terms))


def _constant_logits(voxels: Voxels, terms: LossTerms) -> Tensor:
    shares = (voxels.targets.T @ voxels.shares).clamp(1e-6, 1 - 1e-6)
    return torch.logit(shares) if terms.regions else shares.log()


def _group_matrix(voxels: Voxels) -> Tensor:
    """Return the matrix, shape (groups, voxels), that sums weighted voxels over groups, with reproducible results."""
    matrix = voxels.weights.new_zeros(int(voxels.groups.max()) + 1, len(voxels.weights))
    return matrix.scatter_(0, voxels.groups[None], voxels.weights[None])


def _loss(logits: Tensor, voxels: Voxels, terms: LossTerms, sums: Tensor) -> Tensor:
    if terms.regions:
        probabilities = torch.sigmoid(logits)
        entropy = functional.binary_cross_entropy_with_logits(logits, voxels.targets, reduction="none")
        per_voxel = entropy.sum(1) if terms.summed else entropy.mean(1)
    else:
        logarithms = torch.log_softmax(logits, 1)
        probabilities = logarithms.exp()
        per_voxel = -(logarithms * voxels.targets).sum(1)
    entropy_loss = terms.cross_entropy * (per_voxel * voxels.shares).sum()
    first = 0 if terms.background or terms.regions else 1
    if logits.shape[1] == first:
        return entropy_loss
    probabilities, targets = probabilities[:, first:], voxels.targets[:, first:]
    intersection = sums @ (probabilities * targets)
    size = sums @ (probabilities + targets)
    dice = (2 * intersection + terms.smooth) / (size + terms.smooth).clamp_min(1e-8)
    return entropy_loss - terms.dice * dice.mean()


def discriminant(
    features: Tensor, targets: Tensor, weights: Tensor, *, prior_exponent: float = 1.0, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of linear discriminant analysis with one within-class covariance.

    Parameters
    ----------
    features : shape (voxels, channels)
    targets : shape (voxels, classes), one class per voxel, each class with at least one voxel
    weights : shape (voxels,)
    prior_exponent : the prior is proportional to the class frequency to this power
    ridge : share of the covariance's mean diagonal that is added to its diagonal
    """
    moments = _moments(features, targets, weights)
    whitening = _whitening(moments, ridge)
    centred = (moments.means - moments.mean) @ whitening.T
    bias = prior_exponent * moments.frequencies.log() - centred.square().sum(1) / 2
    weight = centred @ whitening
    return weight.to(features), (bias - weight @ moments.mean).to(features)


@dataclass(frozen=True)
class _Moments:
    """Moments of features.

    Attributes
    ----------
    mean, means : of all voxels and of each class
    frequencies : of the classes
    within : covariance within classes
    rounding : variance below which `within` is rounding errors
    """

    mean: Tensor
    means: Tensor
    frequencies: Tensor
    within: Tensor
    rounding: Tensor


def _moments(features: Tensor, targets: Tensor, weights: Tensor) -> _Moments:
    """Return the weighted means of all voxels and of classes, class frequencies, and the within-class covariance."""
    shares = weights.double() / weights.double().sum()
    by_class = targets.double() * shares[:, None]
    frequencies = by_class.sum(0)
    # all of a wide layer's features in float64 would take more memory than the whole fit may
    rows = len(features) if features.numel() <= WHOLE else max(1, PART // features.shape[1])
    parts = list(zip(features.split(rows), shares.split(rows), by_class.split(rows), strict=True))
    mean = torch.stack([own @ part.double() for part, own, _ in parts]).sum(0)
    offsets, within = mean.new_zeros(len(frequencies), len(mean)), mean.new_zeros(len(mean), len(mean))
    for part, own, classes in parts:
        centred = part.double() - mean
        offsets += classes.T @ centred
        within += centred.T @ (centred * own[:, None])
    offsets /= frequencies[:, None]
    rounding = ROUNDING * within.diagonal().mean() + (torch.finfo(torch.float32).eps * mean).square().mean()
    within -= offsets.T @ (offsets * frequencies[:, None])
    return _Moments(mean, mean + offsets, frequencies, within, rounding)


def _whitening(moments: _Moments, ridge: float) -> Tensor:
    """Return A with A (within-class covariance + ridge) A^T = 1."""
    covariance, size = moments.within, len(moments.within)
    least = moments.rounding.clamp_min(torch.finfo(torch.float32).tiny)
    scale = torch.maximum(covariance.diagonal().mean(), least)
    regular = covariance + ridge * scale * torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    factor = torch.linalg.cholesky(regular)
    identity = torch.eye(size, dtype=factor.dtype, device=factor.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


@dataclass(frozen=True)
class Rows:
    """Known rows of a head: their classes, weight `(rows, channels)`, bias `(rows,)`."""

    classes: tuple[int, ...]
    weight: Tensor
    bias: Tensor


def fit_head(
    voxels: Voxels, terms: LossTerms | None = None, *, known: Rows | None = None, iterations: int = ITERATIONS
) -> Head:
    """Fit a head to voxels: LDA, then L-BFGS on nnU-Net's loss.

    A class without voxels gets a hundredth of the probability of the most frequent class, so that it isn't predicted at first
    but is learnt as soon as it occurs.

    Parameters
    ----------
    terms : parameters of the loss; default: those of nnU-Net for classes
    known : rows to keep; the others are fitted
    iterations : number of L-BFGS iterations; 0 returns the LDA head

    Raises
    ------
    ValueError
        If there are no voxels.
    """
    terms = terms or LossTerms()
    if not len(voxels.weights):
        raise ValueError("a head can't be fitted without voxels")
    sizes = voxels.targets.T @ voxels.weights
    classes, channels = voxels.targets.shape[1], voxels.features.shape[1]
    fixed = torch.zeros(classes, dtype=torch.bool, device=sizes.device)
    fixed[list(known.classes) if known else []] = True
    used = ((sizes > 0) | fixed).nonzero()[:, 0]
    rows = [_fitted_rows(voxels, terms, used, fixed, known, iterations)] if len(used) else []
    if not known:
        # rounding errors can spoil a fit to features with hardly any variance beside a large mean
        rows.append((sizes.new_zeros(len(used), channels), _constant_logits(voxels, terms)[used]))
    found = [_whole_head(voxels, terms, used, *own, known) for own in rows]
    return min(found, key=lambda head: math.inf if math.isnan(head.loss) else head.loss)


def _whole_head(
    voxels: Voxels, terms: LossTerms, used: Tensor, weight: Tensor, bias: Tensor, known: Rows | None
) -> Head:
    """Return a head with these rows for the used outputs, the known rows as they are, and those of outputs without voxels."""
    sizes = voxels.targets.T @ voxels.weights
    whole_weight = weight.new_zeros(len(sizes), weight.shape[1])
    whole_bias = bias.new_full((len(sizes),), math.log(ABSENT))
    if not terms.regions:
        frequent = int(sizes[used].argmax())
        whole_weight += weight[frequent]
        whole_bias += bias[frequent]
    whole_weight[used], whole_bias[used] = weight, bias
    if known:
        # copy exactly, without rounding from the whitening
        rows = list(known.classes)
        whole_weight[rows], whole_bias[rows] = known.weight.to(whole_weight), known.bias.to(whole_bias)
    loss = float(loss_of(torch.addmm(whole_bias, voxels.features, whole_weight.T), voxels, terms))
    return Head(whole_weight, whole_bias, loss, tuple((sizes == 0).nonzero()[:, 0].tolist()))


def _fitted_rows(
    voxels: Voxels, terms: LossTerms, used: Tensor, fixed: Tensor, known: Rows | None, iterations: int
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the used outputs; `fixed` says which of all outputs keep the known rows."""
    if not terms.regions and int(used[0]) != 0:
        # without background voxels, the first class present isn't the background
        terms = replace(terms, background=True)
    space = _whitened(voxels, terms)
    start = _start(space, terms, used, known)
    free = (~fixed[used]).nonzero()[:, 0]
    return _refine(space, terms, used, start, free, iterations if len(free) else 0)


@dataclass(frozen=True)
class _Whitened:
    """Voxels with whitened features (x - mean) transform^T, whose within-class covariance is 1, and the inverse mapping.

    With whitened features, L-BFGS converges in a few steps and the penalty treats all features equally.
    """

    voxels: Voxels
    mean: Tensor
    transform: Tensor
    sums: Tensor

    def enter(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a head for plain features to one for whitened features."""
        own = torch.linalg.solve_triangular(self.transform, weight, upper=False, left=False)
        return own, bias + weight @ self.mean

    def leave(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a head for whitened features to one for plain features."""
        plain = weight @ self.transform
        return plain, bias - plain @ self.mean


def _whitened(voxels: Voxels, terms: LossTerms) -> _Whitened:
    moments = _moments(voxels.features, _partition(voxels.targets, terms), voxels.weights)
    mean, transform = moments.mean.to(voxels.features), _whitening(moments, RIDGE).to(voxels.features)
    white = replace(voxels, features=(voxels.features - mean) @ transform.T)
    return _Whitened(white, mean, transform, _group_matrix(voxels))


def _partition(targets: Tensor, terms: LossTerms) -> Tensor:
    """Return targets with exactly one class per voxel; each occurring combination of regions becomes a class."""
    if not terms.regions:
        return targets[:, targets.any(0)]
    _, classes = torch.unique(targets, dim=0, return_inverse=True)
    return functional.one_hot(classes).to(targets)


def _start(space: _Whitened, terms: LossTerms, used: Tensor, known: Rows | None) -> tuple[Tensor, Tensor]:
    """Return the best LDA head with the known rows inserted, for the used classes and whitened features."""
    voxels = replace(space.voxels, targets=space.voxels.targets[:, used])
    best: tuple[float, Tensor, Tensor] | None = None
    for exponent in PRIOR_EXPONENTS:
        weight, bias = _region_rows(voxels, exponent) if terms.regions else _class_rows(voxels, exponent)
        if known:
            rows = torch.tensor([used.tolist().index(c) for c in known.classes], device=used.device)
            own_weight, own_bias = space.enter(known.weight.to(weight), known.bias.to(bias))
            if not terms.regions:
                # class logits are defined up to a common function of the features: use that of the known rows
                occurring = voxels.targets[:, rows].any(0)
                if occurring.any():
                    weight = weight + (own_weight - weight[rows])[occurring].mean(0)
                    bias = bias + (own_bias - bias[rows])[occurring].mean()
            weight[rows], bias[rows] = own_weight, own_bias
        loss = float(_loss(voxels.features @ weight.T + bias, voxels, terms, space.sums))
        if best is None or loss < best[0]:
            best = loss, weight, bias
    assert best is not None
    return best[1], best[2]


def _class_rows(voxels: Voxels, exponent: float) -> tuple[Tensor, Tensor]:
    """Return the LDA rows; zeros for a known class without voxels, whose row is replaced later."""
    occurring = voxels.targets.any(0)
    weight = voxels.features.new_zeros(len(occurring), voxels.features.shape[1])
    bias = voxels.features.new_zeros(len(occurring))
    weight[occurring], bias[occurring] = discriminant(
        voxels.features, voxels.targets[:, occurring], voxels.weights, prior_exponent=exponent
    )
    return weight, bias


def _region_rows(voxels: Voxels, exponent: float) -> tuple[Tensor, Tensor]:
    """Return the LDA of each region against all other voxels."""
    rows = []
    for region in voxels.targets.T:
        sides = torch.stack((1 - region, region), 1)
        if sides.any(0).all():
            weight, bias = discriminant(voxels.features, sides, voxels.weights, prior_exponent=exponent)
            rows.append((weight[1] - weight[0], bias[1] - bias[0]))
        else:
            rows.append((torch.zeros_like(voxels.features[0]), voxels.features.new_tensor(-math.log(ABSENT))))
    return torch.stack([w for w, _ in rows]), torch.stack([b for _, b in rows])


def _refine(
    space: _Whitened,
    terms: LossTerms,
    used: Tensor,
    start: tuple[Tensor, Tensor],
    free: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Return weight and bias on plain features after L-BFGS on the free rows."""
    voxels = replace(space.voxels, targets=space.voxels.targets[:, used])
    parameters = [nn.Parameter(start[0][free].clone()), nn.Parameter(start[1][free].clone())]

    def head() -> tuple[Tensor, Tensor]:
        return start[0].index_copy(0, free, parameters[0]), start[1].index_copy(0, free, parameters[1])

    def loss() -> Tensor:
        weight, bias = head()
        return _loss(torch.addmm(bias, voxels.features, weight.T), voxels, terms, space.sums)

    if iterations:
        optimizer = torch.optim.LBFGS(parameters, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss() + PENALTY * parameters[0].square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(closure)
    with torch.no_grad():
        return space.leave(*head())
