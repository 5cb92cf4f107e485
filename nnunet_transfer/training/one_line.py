"""One-line endings for errors inside nnU-Net's own commands."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nnunet_transfer.errors import TransferError

DEBUG_VARIABLE = "NNUNET_TRANSFER_DEBUG"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Convert a user error to `SystemExit` with one line, because `nnUNetv2_train` prints tracebacks.

    With `NNUNET_TRANSFER_DEBUG=1`, the error is raised unchanged.
    """
    try:
        yield
    except TransferError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        raise SystemExit(f"nnunet_transfer: {error}") from None


def is_full_disk(error: BaseException) -> bool:
    """Whether an error of `torch.save` or of a file system call means that the disk or quota is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # torch's zip writer reports any short write this way
    return isinstance(error, RuntimeError) and (
        "PytorchStreamWriter failed" in str(error) or "unexpected pos" in str(error)
    )


@contextmanager
def one_line_full_disk(what: str) -> Iterator[None]:
    """Convert the error of a full disk while writing `what` to a `TransferError`.

    Parameters
    ----------
    what : what is written and where, followed by a semicolon and what to do after freeing space
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_full_disk(error):
            raise
        raise TransferError(f"no space left to write {what}") from error
