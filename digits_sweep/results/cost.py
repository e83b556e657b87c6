"""What a step takes on a machine: `cost.json`, measured there and read elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from digits_sweep.config.keys import flat
from digits_sweep.config.schema import Config
from digits_sweep.config.text import to_text
from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import SMALL_BYTES, check_format, read_json, replace_file
from digits_sweep.results.record import Size

COST_FILE, FORMAT = "cost.json", 1
# Throughput is flat from where it is within so much of the highest.
FLAT = 0.1
StepSeconds = Annotated[float, Meta(gt=0, le=1e6)]
Text = Annotated[str, Meta(max_length=200)]
# Keys of which the seconds of a step depend on any machine; device, engine and threads belong to the machine.
OF_THE_STEP = ("model.", "data.name", "data.target", "data.scale", "optimizer.name", "optimizer.target", "loss.name")


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The seconds of a step at a batch size: the median over rounds and its quartiles, and what computed them."""

    batch_size: Size
    seconds: StepSeconds
    low: StepSeconds
    high: StepSeconds
    engine: Text
    num_threads: Size

    @property
    def throughput(self) -> float:
        """Examples per second."""
        return self.batch_size / self.seconds


@dataclass(frozen=True, kw_only=True)
class MachineCost:
    """`cost.json`: what the steps of a `network` take on a `machine`, a row for every batch size.

    `network` has the keys `OF_THE_STEP` with their values as text. `largest_batch_size` is the largest that fits into
    its memory; None if that is not known.
    """

    format: int = FORMAT
    machine: Annotated[str, Meta(min_length=1, max_length=200)]
    torch_version: Text
    measured_at: Text
    network: Annotated[dict[Text, Text], Meta(max_length=100)]
    steps: Annotated[list[StepCost], Meta(min_length=2, max_length=100)]
    largest_batch_size: Size | None = None

    @property
    def flat_from(self) -> int | None:
        """The batch size from which on throughput stays within `FLAT` of the highest; None if it rises to the end."""
        rows = sorted(self.steps, key=lambda step: step.batch_size)
        least = (1 - FLAT) * max(step.throughput for step in rows)
        flat = list(takewhile(lambda step: step.throughput >= least, reversed(rows)))
        return flat[-1].batch_size if len(flat) > 1 else None


def write_cost(path: Path, cost: MachineCost) -> None:
    """Replace the file. Raises OSError if it cannot be written."""
    replace_file(path, json.dumps(asdict(cost), indent=2, allow_nan=False) + "\n")


def read_cost(path: Path) -> MachineCost:
    """Read a `cost.json`, which may come from somebody else.

    Raises `UnreadableRecord` if it holds something else, with the place and the reason.
    """
    cost = read_json(path, SMALL_BYTES, MachineCost)
    check_format(path.name, cost.format, FORMAT)
    if len({step.batch_size for step in cost.steps}) < len(cost.steps):
        raise UnreadableRecord(f"{path.name}: steps: a batch size is there twice")
    return cost


def network_of(config: Config) -> dict[str, str]:
    """Return what the seconds of a step depend on besides machine and batch size, by key, as text.

    The number of classes follows from the data.
    """
    keys = {key: to_text(value) for key, value in flat(asdict(config)) if key.startswith(OF_THE_STEP)}
    return {key: text for key, text in keys.items() if key != "model.num_classes"}


def seconds_of_step(steps: Mapping[int, float], batch_size: Any) -> Any:
    """Return the seconds of a step at a batch size, from those at a few; of an array, an element each.

    Straight lines between logarithms, so that a step may cost the same at small batch sizes and in proportion at large
    ones. A larger batch never takes less. Below the smallest batch size a step takes as long as there, above the
    largest it takes longer in proportion.
    """
    sizes = np.array(sorted(steps), float)
    seconds = np.maximum.accumulate([steps[int(size)] for size in sizes])
    between = np.exp(np.interp(np.log(batch_size), np.log(sizes), np.log(seconds)))
    return between * np.maximum(1.0, np.asarray(batch_size, float) / sizes[-1])
