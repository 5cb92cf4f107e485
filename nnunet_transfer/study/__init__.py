"""A study as one file: what is to be run, in which order, what is done; run by Snakemake. Importing it needs no torch."""

from nnunet_transfer.study.description import Study
from nnunet_transfer.study.jobs import Job, study_jobs
from nnunet_transfer.study.reading import read_study

__all__ = ["Job", "Study", "read_study", "study_jobs"]
