"""What is measured at frozen weights: loss, error and gradient noise scale, and when."""
