"""Transfer plans: nnU-Net plans with a profile's or a source's architecture."""

from nnunet_transfer.plans.chosen import write_chosen_plans
from nnunet_transfer.plans.design import FOLLOW, plans_name_for
from nnunet_transfer.plans.profiles import PROFILES, Profile, get_profile
from nnunet_transfer.plans.transfer_plans import write_transfer_plans

__all__ = [
    "FOLLOW",
    "PROFILES",
    "Profile",
    "get_profile",
    "plans_name_for",
    "write_chosen_plans",
    "write_transfer_plans",
]
