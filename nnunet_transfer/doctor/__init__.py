"""Checks of the installation, the environment and the sources, each with its fix.

Nothing here imports torch or nnunetv2 into this process: what is broken must not stop the check that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nnunet_transfer.doctor.findings import Finding, State
from nnunet_transfer.doctor.folders import check_folders
from nnunet_transfer.doctor.installation import check_commands, check_nnunet, check_python, check_versions
from nnunet_transfer.doctor.leftovers import check_leftovers
from nnunet_transfer.doctor.search_path import check_search_path
from nnunet_transfer.doctor.sources import check_sources, check_trained
from nnunet_transfer.doctor.torch_build import check_torch

__all__ = [
    "CHECKS",
    "Finding",
    "State",
    "check_commands",
    "check_folders",
    "check_leftovers",
    "check_nnunet",
    "check_python",
    "check_search_path",
    "check_sources",
    "check_torch",
    "check_trained",
    "check_versions",
    "examine",
]

#: each before those that its failure would break
CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    check_python,
    check_commands,
    check_nnunet,
    check_versions,
    check_torch,
    check_folders,
    check_leftovers,
    check_search_path,
    check_sources,
    check_trained,
)


def examine() -> Iterator[Finding]:
    """Run all checks, in order."""
    for check in CHECKS:
        yield from check()
