"""Search for learning rate and weight decay with Optuna: every trial is an ordinary recorded run."""
