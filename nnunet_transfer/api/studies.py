"""Set up, check, run and watch studies, and write their reports; run the demo."""

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
    """Write a study file: a short one for the given targets and sources, or a commented template without targets.

    Parameters
    ----------
    file
        The file to write; it must not exist.
    targets
        One `CONVERTER=FOLDER` per target: the data set's name in `nnunet_transfer convert --list`, and the folder with
        the data.
    sources
        Names in the catalogue; `nnunet_transfer sources fetch` lists them.
    profile
        Architecture; default: that of the sources.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    TransferError
        If a name is unknown, the sources need different architectures, or the file exists.

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
    """Check a study without running it: its steps, the time and disk space they need, and any problems.

    Parameters
    ----------
    file
        The study file.

    Returns
    -------
    StudyCheck
        The steps, the expected cost, and the findings; `print` shows all of it.

    Raises
    ------
    TransferError
        If the file is not a valid study file. All other problems are listed in the findings.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> check = nt.check_study(getfixture("study_file"))
    >>> check.errors, len(check.jobs)
    ([], 13)
    >>> print(check)
    small: 1 target, 2 arms (scratch, t1_segmentation), 2 folds
    ...
    ready: nnunet_transfer study run ...study.yaml
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
    """Run a study, or resume it; finished steps are not repeated.

    Parameters
    ----------
    file
        The study file; `init_study` writes one.
    jobs
        Number of parallel steps on this machine, or of parallel jobs on a cluster; default: one per GPU, or one per
        core if there is no GPU.
    profile
        Folder with Snakemake's `config.yaml`, for example for SLURM.
    smoke
        Run every step within minutes, with trainings of five iterations, in a subfolder of the study's folder.
    dry_run
        Only resolve which steps would run.

    Returns
    -------
    Path
        The report; after a dry run, the path that it will have.

    Raises
    ------
    TransferError
        If the file has errors or a step failed.

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
    """Return the state of each step of a study, also while it runs.

    Parameters
    ----------
    file
        The study file.

    Returns
    -------
    list of StudyStep
        In the order of execution.

    Raises
    ------
    TransferError
        If the file is not a valid study file.

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
    """Return the report of a study.

    Before the study is finished, write a report on the arms whose folds are all trained.

    Parameters
    ----------
    file
        The study file.

    Returns
    -------
    Path, list of str
        The report, and the targets and arms that are still missing from it.

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
    """Run a complete study on small synthetic data, offline and without a GPU; it takes some minutes on two cores.

    Parameters
    ----------
    folder
        New or empty folder for the study file and all results.
    quick
        Run one target, two arms and a few iterations only.
    seed
        Seed of the data and the trainings.
    jobs
        Number of parallel trainings, one core each.
    resume
        Resume a demo in `folder`; finished steps are kept.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    TransferError
        If `folder` contains other files, or a step failed.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.run_demo("demo")  # doctest: +SKIP
    PosixPath('/home/me/demo/report/report.html')
    """
    from nnunet_transfer.study.demo import run_demo

    return run_demo(Path(folder).resolve(), quick=quick, seed=seed, jobs=jobs, resume=resume)
