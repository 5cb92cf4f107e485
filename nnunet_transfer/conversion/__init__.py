"""Turn public data sets into nnU-Net data sets.

A data set is described in a `DatasetDescription` in a module of `dataset_conversion/`: where the files lie (`Layout`, with the
patterns of `patterns.Pattern`), what the label values mean (`LabelRule`), terms and citation. Modules there are found by
themselves. What files' names don't tell comes from two functions that a description may name: `refine(request, cases)`
adds what stands in tables, `find_cases(request)` makes the cases itself, with `Pixels` for pictures and masks that are no
files of their own. Neither is called in a worker process.

    catalogue   the descriptions, by name or from a user's file
    case_search file names -> cases and problems; reads no voxels
    case_*      one case -> its files and its record
    plan        options and cases -> what will be done
    workers     cases, one by one or in several processes
    journal     records on disk, to go on from
    engine      all cases -> a data set in place, or nothing
    tables      records -> dataset.json, manifest, skips, classes
    splits      records -> folds
    install     the folds, to where nnU-Net reads them
"""
