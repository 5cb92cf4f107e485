"""Modules that most steps of a study need, imported by the fork server. Nothing here may start threads or use a GPU."""

import dynamic_network_architectures.architectures.unet  # noqa: F401
import nnunetv2.run.run_training  # noqa: F401

import nnunet_transfer._nnunet
import nnunet_transfer.comparison.pipeline
import nnunet_transfer.conversion.engine
import nnunet_transfer.plans
import nnunet_transfer.study.steps
import nnunet_transfer.trainers.nnUNetPretrainerClassification
import nnunet_transfer.trainers.nnUNetPretrainerSegmentation
import nnunet_transfer.trainers.nnUNetPretrainerSelfSupervised
import nnunet_transfer.trainers.nnUNetTrainerScratch
import nnunet_transfer.trainers.nnUNetTrainerTransfer  # noqa: F401
