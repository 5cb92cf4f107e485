"""Check a study, then run it."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_transfer.errors import SettingsError, StudyError
from nnunet_transfer.gpus import visible_gpus
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.engine import run_study
from nnunet_transfer.study.steps import report_folder
from nnunet_transfer.study.summary import examine


def run_checked(study: Study, *, jobs: int | None = None, profile: Path | None = None, dry: bool = False) -> Path:
    """Run all unfinished steps of a study, after checking for problems that would stop it.

    Parameters
    ----------
    jobs : number of parallel steps; default: one per GPU, or one per core if there is no GPU
    profile : folder with Snakemake's `config.yaml`
    dry : only resolve what would run

    Returns
    -------
    Path
        The report, or the path that it will have.

    Raises
    ------
    StudyError
        With the first finding that stops the study, or with the step that failed.
    """
    if jobs is not None and jobs < 1:
        raise SettingsError(f"--jobs {jobs}: give at least 1")
    check = examine(study)
    if errors := check.errors:
        more = f" ({len(errors) - 1} more: {study.command('check')})" if len(errors) > 1 else ""
        raise StudyError(f"{errors[0]}{more}")
    run_study(study, check.jobs, slots=jobs or len(visible_gpus()) or os.cpu_count() or 1, profile=profile, dry=dry)
    return report_folder(study) / "report.html"
