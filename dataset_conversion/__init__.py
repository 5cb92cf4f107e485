"""One module per family of data sets; each `DatasetDescription` in them is found by `nnunet_transfer.conversion.catalogue`."""
