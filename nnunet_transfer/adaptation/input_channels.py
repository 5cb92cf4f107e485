"""Match the input channels of a source with those of a target."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_transfer.channels import comparable, is_name


@dataclass(frozen=True)
class InputChannels:
    """The input channels of source and target: image channels by name, followed by the label channels of a cascade.

    Attributes
    ----------
    source, target : names of the image channels; empty if unknown
    source_labels : number of label channels after the source's image channels
    target_labels : names of the target's label channels
    """

    source: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    source_labels: int = 0
    target_labels: tuple[str, ...] = ()

    def images(self, before: int, after: int) -> tuple[int, int]:
        """Return the number of image channels among `before` and `after` input channels."""
        return before - self.source_labels, after - len(self.target_labels)

    def match(self, before: int, after: int) -> bool:
        """Whether to match `before` source image channels with `after` target image channels by name."""
        if (len(self.source), len(self.target)) != (before, after):
            return False
        source, target = _known(self.source), _known(self.target)
        twice = len(set(source)) < len(source) or len(set(target)) < len(target)
        same = [*map(comparable, self.source)] == [*map(comparable, self.target)]
        return not twice and not same and bool(set(source) & set(target))

    def new(self, before: int, after: int) -> tuple[str, ...]:
        """Return the names of the target's image channels that the source doesn't have, if they are matched by name."""
        if not self.match(*self.images(before, after)):
            return ()
        known = set(_known(self.source))
        return tuple(name for name in self.target if comparable(name) not in known or not is_name(name))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label channels, which no source has."""
        return tuple(f"{name} (label of the previous stage)" for name in self.target_labels)


def _known(names: tuple[str, ...]) -> list[str]:
    return [comparable(name) for name in names if is_name(name)]
