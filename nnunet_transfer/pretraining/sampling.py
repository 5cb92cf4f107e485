"""How often each training case is listed, so that a uniform draw from the list is balanced.

nnU-Net's loader draws uniformly from its data set's identifiers: a list with repeats takes the place of sampling
probabilities and needs no loader of our own.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

#: how often the list has a case of the largest class, or one without rare labels, unless fewer repeats already do
MIN_REPEATS = 8


def evenly(groups: Sequence[Sequence[str]]) -> list[str]:
    """Repeat cases so that a uniform draw hits every group equally often.

    Within a group all cases have equally many entries where the list stays short, otherwise they differ by one in at
    least `MIN_REPEATS`. No group may be empty.
    """
    sizes = [len(group) for group in groups]
    length = min(math.lcm(*sizes), MIN_REPEATS * max(sizes))
    return [case for group in groups for case in itertools.islice(itertools.cycle(group), length)]


def by_rarest_label(labels_of: Mapping[str, Collection[int]]) -> list[str]:
    """Repeat cases by their rarest label.

    A case is drawn sqrt(F / f) times as often as one of the commonest label or of none, where f is the frequency of its
    rarest label and F that of the commonest. Cases have several labels, so that equal frequencies can't be reached in
    general; the square root keeps a single case of a rare label from filling every batch.

    References
    ----------
    Gupta et al., LVIS, CVPR 2019, doi:10.1109/CVPR.2019.00550; repeat factor sampling is in the appendix of
    arXiv:1908.03195. Its threshold, below which a label counts as rare, is F here: the data sets are small and have no
    tail of thousands of labels.
    """
    frequency = Counter(label for labels in labels_of.values() for label in labels)
    commonest = max(frequency.values(), default=1)
    repeats = {
        case: max((math.sqrt(commonest / frequency[label]) for label in labels), default=1.0)
        for case, labels in labels_of.items()
    }
    scale = 1 if max(repeats.values(), default=1.0) == 1 else MIN_REPEATS
    return [case for case, factor in repeats.items() for _ in range(round(scale * factor))]
