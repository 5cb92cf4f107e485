"""Studies: one file describes all steps, and Snakemake runs them. Importing this package doesn't import torch."""

from nnunet_transfer.study.description import Study
from nnunet_transfer.study.jobs import Job, study_jobs
from nnunet_transfer.study.reading import read_study

__all__ = ["Job", "Study", "read_study", "study_jobs"]
