"""Trackers: what the records of a sweep say, told to TensorBoard, MLflow or Weights & Biases while it runs.

They read what a run has put on disk, in a process of their own: nothing that they do can slow, stop or change a run.
"""

from digits_sweep.trackers.protocol import Tracker


def start(name: str, settings: dict[str, str]) -> Tracker:
    """The tracker called `name`, its library imported. Raises whatever that library raises, KeyError for no tracker."""
    if name == "tensorboard":
        from digits_sweep.trackers.tensorboard import TensorBoardTracker

        return TensorBoardTracker(**settings)
    if name == "mlflow":
        from digits_sweep.trackers.mlflow import MLflowTracker

        return MLflowTracker(**settings)
    if name == "wandb":
        from digits_sweep.trackers.wandb import WandbTracker

        return WandbTracker(**settings)
    raise KeyError(name)
