"""Lists of training cases with repeats, so that uniform sampling from the list is balanced.

nnU-Net's loader samples uniformly from the identifiers of its data set. A list with repeats replaces sampling probabilities
and works with nnU-Net's loader.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

#: how often the list has a case of the largest class, or one without rare labels, unless fewer repeats already do
MIN_REPEATS = 8


def evenly(groups: Sequence[Sequence[str]]) -> list[str]:
    """Repeat cases so that uniform sampling selects every group equally often.

    Within a group, all cases have the same number of entries if the list stays short; otherwise, the numbers are at least
    `MIN_REPEATS` and differ by at most one. No group may be empty.
    """
    sizes = [len(group) for group in groups]
    length = min(math.lcm(*sizes), MIN_REPEATS * max(sizes))
    return [case for group in groups for case in itertools.islice(itertools.cycle(group), length)]


def by_rarest_label(labels_of: Mapping[str, Collection[int]]) -> list[str]:
    """Repeat cases by their rarest label.

    A case is sampled sqrt(F / f) times as often as a case with only the most common label or none, where f is the frequency
    of its rarest label and F that of the most common label. Equal frequencies are impossible in general, because cases have
    several labels. The square root prevents a single case of a rare label from filling every batch.

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
