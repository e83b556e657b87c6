"""What the runs of a study mean: tables, the fit, branches, and which batch size is soonest."""
