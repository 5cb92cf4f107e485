"""Pre-training by segmentation, on one data set or on several with their own labels."""
