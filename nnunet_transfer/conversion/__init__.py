"""Convert public data sets to nnU-Net data sets.

A data set is described in a `DatasetDescription` in a module of `dataset_conversion/`: where the files lie (`Layout`, with the
patterns of `patterns.Pattern`), what the label values mean (`LabelRule`), terms and citation. Modules in this folder are
found automatically. A description may name two functions for information that file names don't contain: `refine(request,
cases)` adds information from tables, and `find_cases(request)` replaces the search for cases, with `Pixels` for pictures
and masks that are not separate files. Neither is called in a worker process.

    catalogue   descriptions, by name or from a user's file
    case_search file names -> cases and problems; reads no voxels
    case_*      one case -> its files and its record
    plan        options and cases -> what to do
    workers     cases, one by one or in several processes
    journal     records on disk, to resume from
    engine      all cases -> a data set in place, or nothing
    tables      records -> dataset.json, manifest, skips, classes
    splits      records -> folds
    install     folds -> the preprocessed data set, where nnU-Net reads them
"""
