"""`python -m nnunet_transfer` is the command `nnunet_transfer`."""

from nnunet_transfer.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
