"""Search: learning rate and weight decay found by trying, every trial an ordinary recorded run. Needs Optuna."""
