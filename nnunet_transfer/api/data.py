"""Data sets: convert, prepare and synthesise them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_transfer.conversion.description import DatasetDescription
    from nnunet_transfer.conversion.engine import Outcome as Conversion
    from nnunet_transfer.conversion.plan import Options as ConversionOptions
    from nnunet_transfer.conversion.plan import Plan as ConversionPlan
    from nnunet_transfer.conversion.pool import Pool
    from nnunet_transfer.synthetic.settings import Settings as SynthesisSettings


def convert(
    dataset: str | PathLike[str] | DatasetDescription,
    source: str | PathLike[str],
    dataset_id: int,
    options: ConversionOptions | None = None,
) -> Conversion:
    """Turn a public data set, or your own, into an nnU-Net data set in `$nnUNet_raw`.

    Parameters
    ----------
    dataset
        Name of a known data set (`nnunet_transfer convert --list`), a Python file that holds a `DatasetDescription`, or
        the description itself.
    source
        Folder that the data set was unpacked to.
    dataset_id
        nnU-Net's id of the new data set.
    options
        Channels, label set, rater, geometry, folds and more; the defaults are those of the command line.

    Returns
    -------
    Conversion
        The new folder, a record of each case, what was left out and why, and warnings.

    Raises
    ------
    TransferError
        If a case can't be converted (unless `options.allow_skips`) or the data set exists and differs.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> getfixture("lab_tree")  # five subjects: P1/t1.nii.gz, P1/lesions.nii.gz, ...
    PosixPath('...')
    >>> lab = nt.DatasetDescription(
    ...     name="lab",
    ...     title="our patients",
    ...     folder_name="Lab",
    ...     licence="internal",
    ...     citation="unpublished",
    ...     request="ask the study office",
    ...     label_sets={"lesion": nt.LabelRule({"lesion": 1})},
    ...     case="{subject}",
    ...     layouts=(
    ...         nt.Layout(
    ...             prefix="{subject:P[0-9]+}/",
    ...             images={"T1": "t1.nii[.gz]"},
    ...             labels={"lesion": "lesions.nii[.gz]"},
    ...         ),
    ...     ),
    ... )
    >>> conversion = nt.convert(lab, getfixture("lab_tree"), dataset_id=8)
    >>> conversion.folder.name, len(conversion.records)
    ('Dataset008_Lab', 5)
    """
    from nnunet_transfer.conversion.engine import convert

    return convert(plan_conversion(dataset, source, dataset_id, options))


def plan_conversion(
    dataset: str | PathLike[str] | DatasetDescription,
    source: str | PathLike[str],
    dataset_id: int,
    options: ConversionOptions | None = None,
) -> ConversionPlan:
    """Find the cases of a data set and check the options, without reading a voxel or writing anything.

    Parameters
    ----------
    dataset, source, dataset_id, options
        As `convert` takes them.

    Returns
    -------
    ConversionPlan
        `cases`, `folder`, and in `found` the images that no case is made from, with the reasons.

    Raises
    ------
    TransferError
        If there are no cases, or options don't go with the data set.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> getfixture("lab_tree")  # five subjects: P1/t1.nii.gz, P1/lesions.nii.gz, ...
    PosixPath('...')
    >>> options = nt.ConversionOptions(dataset_options={"name": "t1*"})
    >>> plan = nt.plan_conversion("t1_folder", getfixture("lab_tree"), 9, options)
    >>> [case.name for case in plan.cases]
    [...]
    >>> nt.convert_planned(plan).converted
    5
    """
    from nnunet_transfer.conversion import plan
    from nnunet_transfer.conversion.catalogue import get_description
    from nnunet_transfer.conversion.description import DatasetDescription

    description = dataset if isinstance(dataset, DatasetDescription) else get_description(str(dataset))
    return plan.plan_conversion(description, Path(source), dataset_id, options or plan.Options())


def convert_planned(plan: ConversionPlan, progress: Callable[[int, int], None] | None = None) -> Conversion:
    """Convert the cases of a plan, as `convert` does that makes the plan itself.

    Parameters
    ----------
    plan
        What `plan_conversion` returned.
    progress
        Called with the number of cases done and of all cases, whenever one is done.

    Raises
    ------
    TransferError
        As `convert`.

    Examples
    --------
    See `plan_conversion`.
    """
    from nnunet_transfer.conversion.engine import convert

    return convert(plan, progress) if progress else convert(plan)


def install_splits(dataset: str | int, *, overwrite: bool = False) -> Path:
    """Copy a converted data set's folds to where nnU-Net reads them, once it is preprocessed.

    Parameters
    ----------
    dataset
        Folder name or id of the data set.
    overwrite
        Replace other folds that are there.

    Returns
    -------
    Path
        `splits_final.json` in `$nnUNet_preprocessed`.

    Raises
    ------
    TransferError
        If the folds don't fit the preprocessed cases, or other folds are there already.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.install_splits(getfixture("preprocessed")).name  # a data set with folds, preprocessed
    'splits_final.json'
    """
    from nnunet_transfer.conversion.install import install_splits

    return install_splits(dataset, overwrite=overwrite)


def pool(
    datasets: Sequence[str], dataset_id: int, name: str, *, same_subjects: bool = False, link: bool = False
) -> Pool:
    """Pool data sets with different labels into one, to pre-train on all of them with one head per set.

    Parameters
    ----------
    datasets
        Ids or folder names of the sets in `$nnUNet_raw`; they stay as they are.
    dataset_id, name
        Of the new data set; the name without `DatasetXXX_`.
    same_subjects
        Subjects of the same name in several sets are the same, and stay on one side of each fold.
    link
        Link to the images instead of copying them.

    Returns
    -------
    Pool
        `folder`, `sets` with their cases and labels, and the pooled folds.

    Raises
    ------
    TransferError
        If the id is in use, the sets don't go together, or a label file can't be used.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> pooled = nt.pool(getfixture("two_sets"), 20, "Anatomy")
    >>> pooled.folder.name, [len(one.cases) for one in pooled.sets]
    ('Dataset020_Anatomy', [5, 5])
    """
    from nnunet_transfer.conversion.pool import plan_pool, pool

    plan = plan_pool(datasets, dataset_id, name, same_subjects=same_subjects)
    pool(plan, link=link)
    return plan


def synthesize(settings: SynthesisSettings, *, processes: int = 1) -> Path:
    """Make an nnU-Net data set of T1-like images from label maps, with or without pasted lesions, to pre-train on.

    Needs the extra `synthesize` (`pip install "nnunet_transfer[synthesize]"`).

    Returns
    -------
    Path
        The data set's folder in `$nnUNet_raw`.

    Raises
    ------
    TransferError
        If label maps, lesion masks or settings can't be used.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.synthesize(nt.SynthesisSettings(labels="label_maps", dataset_id=81))  # doctest: +SKIP
    PosixPath('.../Dataset081_Synthetic')
    """
    from nnunet_transfer.synthetic.settings import plan_synthesis
    from nnunet_transfer.synthetic.synthesis import synthesize

    return synthesize(plan_synthesis(settings), processes=processes)
