"""The files of a study of the critical batch size: their names and the types of their columns."""

from typing import Any

TUNING, STEPS = "tuning.csv", "steps_to_target.csv"
TUNING_TYPES: dict[str, Any] = {
    "batch_size": "Int64",
    "lr": "Float64",
    "seed": "Int64",
    "target": "string",
    "threshold": "Float64",
    "reached": "boolean",
    "iterations": "Float64",
    "examples": "Float64",
}
STEPS_TYPES: dict[str, Any] = {
    "target": "string",
    "threshold": "Float64",
    "batch_size": "Int64",
    "lr": "Float64",
    "seeds": "Int64",
    "median": "Float64",
    "low": "Float64",
    "high": "Float64",
    "tuned_median": "Float64",
}
