"""Checks of the sources in the registry, and of those that trained arms loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nnunet_transfer.comparison.loaded import doubtful_arms
from nnunet_transfer.doctor.findings import Finding, State
from nnunet_transfer.doctor.folders import why_unreadable
from nnunet_transfer.errors import TransferError
from nnunet_transfer.naming import ARMS
from nnunet_transfer.paths import nnunet_results, sources_folder
from nnunet_transfer.sources import TASKS, load_source


def check_sources() -> Iterator[Finding]:
    """Whether the sources of the six arms are in the registry, unchanged."""
    try:
        registry = sources_folder()
    except TransferError:
        yield Finding("sources", State.WARN, "not checked", "set nnUNet_results or nnUNet_sources")
        return
    if reason := why_unreadable(registry):
        yield Finding("sources", State.FAIL, f"{registry} can't be read ({reason})", "fix its permissions")
        return
    if registry.exists() and not registry.is_dir():
        yield Finding("sources", State.FAIL, f"{registry} is a file", "give nnUNet_sources a folder")
        return
    missing = [name for name in ARMS.values() if name is not None and not (registry / name).is_dir()]
    if missing:
        fix = "to train an arm of such a name, make its source with a pretrainer or `nnunet_transfer sources add`"
        yield Finding("arms", State.WARN, f"{registry} lacks {', '.join(missing)}", fix)
    here = sorted(path.name for path in registry.iterdir() if path.is_dir()) if registry.is_dir() else []
    for name in here:
        if not name.startswith("."):
            yield from _source_findings(name)


def _source_findings(name: str) -> Iterator[Finding]:
    check = f"source {name}"
    try:
        source = load_source(name)
        source.verify()
    except TransferError as error:
        yield Finding(check, State.FAIL, str(error))
        return
    yield Finding(check, State.OK, f"unchanged, {source.weights.stat().st_size / 1e6:.1f} MB")
    if text := _contradiction(name, source.card.task, source.card.domain):
        fix = "give it a name that says what it is: `sources add` under another name"
        yield Finding(check, State.WARN, text, fix)


def _contradiction(name: str, task: str, domain: str) -> str:
    """Return how a source's name contradicts its card; empty if it doesn't."""
    words = "_".join(re.findall("[a-z0-9]+", name.lower()))
    named = [word for word in TASKS if word in words]
    if named and task not in named:
        return f"its name says {named[0]}, its card says {task}"
    expected = words.partition("_")[0] if name in ARMS.values() else domain
    return f"its name says {expected} images, its card says {domain}" if domain != expected else ""


def check_trained() -> Iterator[Finding]:
    """Whether the sources that the trained arms loaded agree with the names of the arms."""
    try:
        found = list(doubtful_arms(nnunet_results()))
    except (TransferError, OSError):
        return  # the folder has a check of its own
    for dataset, text in found:
        fix = "compare uses what was loaded; train the arm again from the source that its name says"
        yield Finding(f"trained {dataset}", State.WARN, text, fix)
