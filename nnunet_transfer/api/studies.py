"""Whole studies."""

from __future__ import annotations

from os import PathLike
from pathlib import Path


def run_study(
    file: str | PathLike[str],
    *,
    jobs: int | None = None,
    profile: str | PathLike[str] | None = None,
    smoke: bool = False,
    dry_run: bool = False,
) -> Path:
    """Run a study, or go on with it; what is finished is not done again.

    Parameters
    ----------
    file
        The study's file, see `nnunet_transfer study init`.
    jobs
        Steps at a time on this machine, or jobs at a time in a cluster; default: one per GPU, or per core.
    profile
        Folder with Snakemake's `config.yaml`, for instance for SLURM.
    smoke
        Run every step in minutes, with trainings of five iterations, in a folder of its own in the study's.
    dry_run
        Only resolve what would run.

    Returns
    -------
    Path
        The report; of a dry run, where it would lie.

    Raises
    ------
    TransferError
        If the file is wrong or a step failed.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.run_study("study.yaml")  # doctest: +SKIP
    PosixPath('study/report/report.html')
    """
    from nnunet_transfer.study import read_study
    from nnunet_transfer.study.checked_run import run_checked

    study = read_study(Path(file))
    if smoke:
        from nnunet_transfer.study.short import write_smoke_study

        study = read_study(write_smoke_study(study))
    return run_checked(study, jobs=jobs, profile=Path(profile) if profile else None, dry=dry_run)
