"""Adaptation: load a source's weights into a network that may differ, and report the result."""

from nnunet_transfer.adaptation.report import TransferReport
from nnunet_transfer.adaptation.settings import TransferSettings
from nnunet_transfer.adaptation.steps import AdaptationRules
from nnunet_transfer.adaptation.transfer import transfer_weights
from nnunet_transfer.sources.target import Target

__all__ = ["AdaptationRules", "Target", "TransferReport", "TransferSettings", "transfer_weights"]
