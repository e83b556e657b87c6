"""Trackers: what a sweep records is reported to TensorBoard, MLflow or Weights & Biases, in a process beside it."""
