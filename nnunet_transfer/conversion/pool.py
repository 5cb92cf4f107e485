"""Pool data sets with different labels into one, for pre-training with one head per set.

Each set keeps its own background, because the background of one set may contain a structure of another. The labels of all
sets therefore get distinct values, and each case records its set.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer import __version__
from nnunet_transfer.channels import channel_names
from nnunet_transfer.conversion.checksums import crc32_of
from nnunet_transfer.conversion.job import put_file
from nnunet_transfer.conversion.plan import check_id_is_free, dataset_folder_name
from nnunet_transfer.conversion.pooled_folds import pooled_folds
from nnunet_transfer.conversion.pooled_labels import write_label
from nnunet_transfer.conversion.pooled_set import PooledSet, read_sets
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import write_json
from nnunet_transfer.paths import dataset_name, nnunet_raw
from nnunet_transfer.subjects import DONORS, MADE_FROM, MANIFEST, donors_in
from nnunet_transfer.tables import write_csv
from nnunet_transfer.work import collected, id_held

logger = logging.getLogger(__name__)

#: entry {set: {label: value}} of dataset.json, and the table of the set of each case
LABEL_SETS = "label_sets"
LABEL_SETS_FILE = "label_sets.csv"
#: entry {set: original data set} of dataset.json
POOLED_FROM = "pooled_from"


@dataclass(frozen=True)
class Pool:
    """A plan for pooling data sets, checked for conflicts.

    Attributes
    ----------
    folder
        The new data set.
    sets
        The pooled sets, in the order of their labels.
    ignore
        Value of the ignore label; None if no set has one.
    splits
        The pooled folds.
    """

    folder: Path
    sets: tuple[PooledSet, ...]
    ignore: int | None
    splits: list[dict[str, list[str]]]


def plan_pool(datasets: Sequence[str], dataset_id: int, name: str, *, same_subjects: bool = False) -> Pool:
    """Find the cases of the sets and check that the sets can be combined, without reading voxels or writing files.

    Parameters
    ----------
    same_subjects : whether subjects with the same name in several sets are the same person and must stay in one fold

    Raises
    ------
    SettingsError, DataError
        If the id is in use, a set is given twice or is not in `nnUNet_raw`, the sets differ in channels or file formats, a
        set has regions instead of labels, or the folds don't match.
    """
    folder = nnunet_raw() / dataset_folder_name(dataset_id, name)
    check_id_is_free(folder.name)
    names = [dataset_name(dataset) for dataset in datasets]
    if len(names) < 2:
        raise SettingsError("give two or more data sets to pool with -d")
    if twice := [n for n in names if names.count(n) > 1]:
        raise SettingsError(f"{twice[0]} is given twice")
    sets, ignore = read_sets([nnunet_raw() / n for n in names], same_subjects)
    if not same_subjects and (namesake := _namesake(sets)):
        logger.warning(
            "several sets have a subject %s, treated as different people; if it is one person, give --same-subjects",
            namesake,
        )
    return Pool(folder, sets, ignore, pooled_folds(sets))


def _namesake(sets: Sequence[PooledSet]) -> str:
    """Return a subject name that several sets share; empty if there is none."""
    seen: set[str] = set()
    for pooled in sets:
        names = {subject.removeprefix(f"{pooled.name}_") for subject in pooled.subjects.values()}
        if both := seen & names:
            return min(both)
        seen |= names
    return ""


def pool(plan: Pool, *, link: bool = False) -> Path:
    """Write the pooled data set; an interrupted run is resumed.

    Parameters
    ----------
    link : make symbolic links to the images instead of copying them

    Returns
    -------
    Path
        The new data set's folder.

    Raises
    ------
    DataError
        If a label file can't be read or has a value that is not in its set's dataset.json. The pooled data set is then
        not created.
    """
    content = [link, __version__, [[pooled.dataset, *sorted(pooled.values.items())] for pooled in plan.sets]]
    state = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    with id_held(plan.folder):
        check_id_is_free(plan.folder.name)  # another process may have used the id since the plan was made
        with collected(plan.folder, ("imagesTr", "labelsTr"), state=state) as work:
            _write_cases(plan, work, link)
            _write_tables(plan, work)
    return plan.folder


def _write_cases(plan: Pool, work: Path, link: bool) -> None:
    total = sum(len(pooled.cases) for pooled in plan.sets)
    done = 0
    wanted: set[Path] = set()
    for pooled in plan.sets:
        for case in pooled.cases:
            wanted |= _write_case(pooled, case, work, link)
            done += 1
            if done % max(1, total // 10) == 0:
                logger.info("%d of %d cases", done, total)
    for part in ("imagesTr", "labelsTr"):
        # of an interrupted run: cases that a set has no more, and incomplete files
        for path in {*(work / part).iterdir()} - wanted:
            path.unlink()


def _write_case(pooled: PooledSet, case: str, work: Path, link: bool) -> set[Path]:
    """Write the files of a case that an interrupted run hasn't written; return all its files."""
    files, name = pooled.cases[case], pooled.pooled_name(case)
    written = set()
    for channel, source in enumerate(files.images):
        target = work / "imagesTr" / f"{name}_{channel:04d}{pooled.file_ending}"
        if not _is_current(target, source):
            put_file(source, target, link, None if link else crc32_of(source))
            _mark_current(target, source)
        written.add(target)
    target = work / "labelsTr" / f"{name}{pooled.file_ending}"
    if not _is_current(target, files.label):
        write_label(files.label, target, pooled.values)
        _mark_current(target, files.label)
    written.add(target)
    for folder, source in files.spacings().items():
        target = work / folder / f"{name}.json"
        if not _is_current(target, source):
            put_file(source, target, link=False, checksum=crc32_of(source))
            _mark_current(target, source)
        written.add(target)
    return written


def _is_current(target: Path, source: Path) -> bool:
    """Whether an interrupted run has already written the file from the unchanged source."""
    return target.is_file() and target.stat().st_mtime_ns == source.stat().st_mtime_ns


def _mark_current(target: Path, source: Path) -> None:
    """Give a written file its source's time, because a source may be replaced by a file that is older than the run."""
    if not target.is_symlink():
        time = source.stat().st_mtime_ns
        os.utime(target, ns=(time, time))


def _write_tables(plan: Pool, work: Path) -> None:
    manifest, sets = [], []
    for pooled in plan.sets:
        for case in pooled.cases:
            name = pooled.pooled_name(case)
            manifest.append((name, pooled.subjects[case], pooled.sites[case], pooled.dataset, case))
            sets.append((name, pooled.name))
    write_csv(work / MANIFEST, ("case", "subject", "site", "dataset", "case_in_dataset"), sorted(manifest))
    write_csv(work / LABEL_SETS_FILE, ("case", "set"), sorted(sets))
    write_json(work / "splits_final.json", plan.splits)
    write_json(work / "dataset.json", _dataset_json(plan))


def _dataset_json(plan: Pool) -> dict[str, Any]:
    first = plan.sets[0].content
    ignore = {} if plan.ignore is None else {"ignore": plan.ignore}
    labels = {s.pooled_name(label): value for s in plan.sets for label, value in s.labels.items()}
    kept = {key: first[key] for key in ("overwrite_image_reader_writer",) if key in first}
    return {
        "channel_names": {str(i): name for i, name in enumerate(channel_names(first))},
        "labels": {"background": 0, **labels, **ignore},
        "numTraining": sum(len(pooled.cases) for pooled in plan.sets),
        "file_ending": plan.sets[0].file_ending,
        **kept,
        LABEL_SETS: {pooled.name: pooled.labels for pooled in plan.sets},
        POOLED_FROM: {pooled.name: pooled.dataset for pooled in plan.sets},
        **({DONORS: donors} if (donors := _donors(plan)) else {}),
        **({MADE_FROM: origins} if (origins := _origins(plan)) else {}),
        "licence": _joined(plan, "licence", "license"),
        "reference": _joined(plan, "reference"),
        "pooled_by": f"nnunet_transfer {__version__} pool",
    }


def _donors(plan: Pool) -> dict[str, str]:
    """Return case -> donor of its lesion, for sets that state donors."""
    return {
        pooled.pooled_name(case): donor
        for pooled in plan.sets
        for case, donor in donors_in(pooled.content).items()
        if case in pooled.cases
    }


def _origins(plan: Pool) -> list[str]:
    """Return the data sets that the sets were made from, if stated."""
    return list(dict.fromkeys(name for pooled in plan.sets for name in pooled.content.get(MADE_FROM) or ()))


def _joined(plan: Pool, *keys: str) -> str:
    """Return each set's entry under the first of `keys` that it has."""
    said = {
        pooled.name: next((str(pooled.content[k]) for k in keys if pooled.content.get(k)), "") for pooled in plan.sets
    }
    return "; ".join(f"{name}: {text}" for name, text in said.items() if text)
