"""What `${...}` in `conf/` and values on the command line stand for: by batch size, by a rule, folders, addresses."""
