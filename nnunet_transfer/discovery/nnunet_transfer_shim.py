"""Hands this package's trainers to nnU-Net's look-up.

nnU-Net imports the modules of each folder in `nnUNet_extTrainer` under their bare names, asks `hasattr(module,
trainer_name)` and then drops them from `sys.modules` (nnunetv2 2.8, utilities/find_class_by_name.py). Classes defined
here would therefore be new ones at every look-up and would not unpickle in a worker process. `__getattr__` (PEP 562)
returns the classes of the installed package instead: always the same ones.
"""


def __getattr__(name: str) -> type:
    from nnunet_transfer.discovery import check_training_folders, is_searched_last, later_definition, warn_unused
    from nnunet_transfer.errors import SettingsError
    from nnunet_transfer.naming import is_nearly_ours, is_ours

    # while folders remain to be searched, a name like ours may belong to somebody else
    if not (is_ours(name) or (is_nearly_ours(name) and is_searched_last())):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from nnunet_transfer.trainers import get_trainer_class
    from nnunet_transfer.training.one_line import one_line_errors

    with one_line_errors():
        other = later_definition(name)
        try:
            found = get_trainer_class(name)
        except SettingsError:
            if other is not None:  # it follows no grammar of ours: it is the user's own
                raise AttributeError(f"module {__name__} has no attribute {name}") from None
            raise
        if other is not None:
            warn_unused(name, other)
        check_training_folders()
        return found
