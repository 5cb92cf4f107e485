"""Hands nnunet_transfer's planners to nnU-Net's look-up; `nnunet_transfer planners --remove` removes this file.

nnU-Net asks every module of its folder `experiment_planning` for the planner's name. Other names, and an environment
without nnunet_transfer, are none of this module's business.
"""


def __getattr__(name: str) -> type:
    if not name.startswith("nnUNetPlannerTransfer_"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from nnunet_transfer.planners import get_planner_class
    from nnunet_transfer.training.one_line import one_line_errors

    with one_line_errors():
        return get_planner_class(name)
