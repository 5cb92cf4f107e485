"""Convert, prepare and synthesise data sets."""

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
    """Convert a public data set, or your own, to an nnU-Net data set in `$nnUNet_raw`.

    Parameters
    ----------
    dataset
        Name of a known data set (`nnunet_transfer convert --list` prints them), a Python file that contains a
        `DatasetDescription`, or the description itself.
    source
        Folder with the unpacked data set.
    dataset_id
        nnU-Net id of the new data set, from 1 to 999.
    options
        Channels, label set, rater, geometry, folds and more.

    Returns
    -------
    Conversion
        The new folder, one record per case, the cases and images left out with the reasons, and warnings.

    Raises
    ------
    TransferError
        If a case can't be converted (unless `options.allow_skips` is set), or a different data set with this id
        exists.

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
    """Find the cases of a data set and check the options, without reading voxels or writing files.

    Parameters
    ----------
    dataset, source, dataset_id, options
        As for `convert`.

    Returns
    -------
    ConversionPlan
        `cases` lists the cases, `folder` is the new data set, and `found` lists the problems and the images that belong
        to no case, with the reasons.

    Raises
    ------
    TransferError
        If no case is found, or the data set doesn't support an option.

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
    """Convert the cases of a plan. `convert` makes the plan and converts its cases in one call.

    Parameters
    ----------
    plan
        The plan, from `plan_conversion`.
    progress
        Called after each case with the number of finished cases and the number of all cases.

    Returns
    -------
    Conversion
        As from `convert`.

    Raises
    ------
    TransferError
        As from `convert`.

    Examples
    --------
    See `plan_conversion`.
    """
    from nnunet_transfer.conversion.engine import convert

    return convert(plan, progress) if progress else convert(plan)


def install_splits(dataset: str | int, *, overwrite: bool = False) -> Path:
    """Copy the folds of a converted data set to its preprocessed folder, where nnU-Net reads them.

    Preprocess the data set first.

    Parameters
    ----------
    dataset
        Folder name or id of the data set.
    overwrite
        Replace different folds that are already installed.

    Returns
    -------
    Path
        `splits_final.json` in `$nnUNet_preprocessed`.

    Raises
    ------
    TransferError
        If the folds don't match the preprocessed cases, or different folds are already installed.

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
    """Pool data sets with different labels into one data set, to pre-train with one head per set.

    Parameters
    ----------
    datasets
        Ids or folder names of the sets in `$nnUNet_raw`; the sets don't change.
    dataset_id, name
        Id and name of the new data set; the name without `DatasetXXX_`.
    same_subjects
        Treat subjects with the same name in several sets as one subject, so that all their cases stay in one fold.
    link
        Link to the images instead of copying them.

    Returns
    -------
    Pool
        The new folder, the sets with their cases and labels, and the pooled folds.

    Raises
    ------
    TransferError
        If the id is in use, the sets can't be combined, or a label file can't be used.

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
    """Make an nnU-Net data set for pre-training: T1-like images from label maps, with or without pasted lesions.

    Synthetic images need the extra `synthesize` (`pip install "nnunet_transfer[synthesize]"`).

    Parameters
    ----------
    settings
        Label maps, id of the new data set, number of cases, lesions and more.
    processes
        Number of cases to make in parallel; the result doesn't depend on it.

    Returns
    -------
    Path
        The data set's folder in `$nnUNet_raw`.

    Raises
    ------
    TransferError
        If a label map, a lesion mask or a setting can't be used.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.synthesize(nt.SynthesisSettings(labels="label_maps", dataset_id=81))  # doctest: +SKIP
    PosixPath('.../Dataset081_Synthetic')
    """
    from nnunet_transfer.synthetic.settings import plan_synthesis
    from nnunet_transfer.synthetic.synthesis import synthesize

    return synthesize(plan_synthesis(settings), processes=processes)
