"""Planners that nnU-Net's own commands find by name: `nnUNetv2_plan_experiment -pl nnUNetPlannerTransfer_resnet18`.

nnU-Net looks for planners only in its own package (nnunetv2 2.8, `plan_and_preprocess_api.py`). Whoever wants to use its
commands puts one small file there with `nnunet_transfer planners --install`; nothing of nnU-Net is changed, and
`--remove` takes the file away. `nnunet_transfer plan` writes the same plans without it.
"""

from nnunet_transfer.planners.named import PREFIX, get_planner_class, planner_names
from nnunet_transfer.planners.placing import install, installed_file, remove

__all__ = ["PREFIX", "get_planner_class", "install", "installed_file", "planner_names", "remove"]
