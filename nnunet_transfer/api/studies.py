"""Whole studies: write their file, check, run and watch them, and read their report; the demo."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_transfer.study.status import JobState
    from nnunet_transfer.study.summary import StudyCheck


def init_study(
    file: str | PathLike[str], targets: Sequence[str] = (), sources: Sequence[str] = (), *, profile: str | None = None
) -> Path:
    """Write the file of a study: a short one of these targets and sources, or, without any, a long one with comments.

    Parameters
    ----------
    file
        The file to write; there must be none.
    targets
        `<converter>=<folder of the data>` for each; see `nnunet_transfer convert --list`.
    sources
        Names in the catalogue; see `nnunet_transfer sources fetch`.
    profile
        Architecture; default: that of the sources.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    TransferError
        If a name is unknown, the sources need different architectures, or there is a file already.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> file = getfixture("tmp_path") / "stroke.yaml"
    >>> print(nt.init_study(file, ["atlas_r2=/data/ATLAS_2"], ["imagenet_resnet18d"]).read_text())
    name: stroke
    profile: resnet18
    datasets: {atlas_r2: {id: 101, converter: atlas_r2, path: /data/ATLAS_2}}
    sources: {imagenet_resnet18d: {fetch: imagenet_resnet18d}}
    targets: {atlas_r2: {dataset: atlas_r2, protocols: [atlas_r2]}}
    recipes: [fitted]
    """
    from nnunet_transfer.errors import SettingsError
    from nnunet_transfer.study.short import write_short_study
    from nnunet_transfer.study.template import write_template

    if targets:
        write_short_study(Path(file), targets, sources, profile=profile)
    elif sources or profile:
        raise SettingsError("--source and --profile go with --target")
    else:
        write_template(Path(file))
    return Path(file)


def check_study(file: str | PathLike[str]) -> StudyCheck:
    """Say what a study would run, what that takes, and what is wrong; nothing is run.

    Parameters
    ----------
    file
        The study file.

    Raises
    ------
    TransferError
        If the file can't be read as a study; what else is wrong is among the findings.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> check = nt.check_study(getfixture("study_file"))
    >>> check.errors, len(check.jobs)
    ([], 13)
    >>> print(check)
    small: 1 target, 2 arms (scratch, t1_segmentation), 2 folds
    ...
    ready: nnunet_transfer study run
    """
    from nnunet_transfer.study import read_study
    from nnunet_transfer.study.summary import examine

    return examine(read_study(Path(file)))


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
        The study file, see `nnunet_transfer study init`.
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


def study_status(file: str | PathLike[str]) -> list[JobState]:
    """Return where each step of a study stands, at any time.

    Parameters
    ----------
    file
        The study file.

    Returns
    -------
    list of StudyStep
        In the order in which they may run.

    Raises
    ------
    TransferError
        If the file can't be read as a study.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> steps = nt.study_status(getfixture("study_file"))
    >>> steps[0].job.name, steps[0].state
    ('convert-t1', 'waiting')
    >>> [step.detail for step in steps if step.state == "failed"]
    []
    """
    from nnunet_transfer.study import read_study, study_jobs
    from nnunet_transfer.study.status import job_states

    study = read_study(Path(file))
    return job_states(study, study_jobs(study))


def report_study(file: str | PathLike[str]) -> tuple[Path, list[str]]:
    """Return a study's report; before the study is finished, make one of the arms whose folds are all trained.

    Parameters
    ----------
    file
        The study file.

    Returns
    -------
    Path, list of str
        The report, and which targets and arms are not in it yet.

    Raises
    ------
    TransferError
        If nothing can be compared yet.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> report, missing = nt.report_study(getfixture("finished_study"))
    >>> report.name, missing
    ('report.html', [])
    """
    from nnunet_transfer.study import read_study, study_jobs
    from nnunet_transfer.study.partial_report import report_so_far

    study = read_study(Path(file))
    return report_so_far(study, study_jobs(study))


def run_demo(
    folder: str | PathLike[str], *, quick: bool = False, seed: int = 0, jobs: int = 2, resume: bool = False
) -> Path:
    """Run a whole study on small synthetic data, offline and without a GPU: some minutes on two cores.

    Parameters
    ----------
    folder
        New or empty folder; the study file and all results go there.
    quick
        One target, two arms, a few iterations.
    seed
        Seed of data and trainings.
    jobs
        Trainings at a time, one core each.
    resume
        Go on with a demo that lies in `folder`; what is finished is kept.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    TransferError
        If `folder` holds something else, or a step failed.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.run_demo("demo")  # doctest: +SKIP
    PosixPath('/home/me/demo/report/report.html')
    """
    from nnunet_transfer.study.demo import run_demo

    return run_demo(Path(folder).resolve(), quick=quick, seed=seed, jobs=jobs, resume=resume)
