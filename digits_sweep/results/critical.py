"""The files of a study of the critical batch size: what it is asked, `study.json`, and what it says.

That is `tuning.csv`, `steps_to_target.csv`, `branches.csv` and `critical_batch_size.json`. Beside them the hint of one
run, and `cost.json`: what a step takes on a machine, measured there and read elsewhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pandas as pd
from msgspec import Meta

from digits_sweep.config.keys import flat
from digits_sweep.config.schema import Config, TargetsConfig
from digits_sweep.config.text import expand_home, to_text
from digits_sweep.errors import CannotResume, UnreadableRecord
from digits_sweep.results.files import (
    RECORD_BYTES,
    SMALL_BYTES,
    STUDY_BYTES,
    by_start,
    check_format,
    newest_own,
    read_csv,
    read_file,
    read_json,
    write_json,
)
from digits_sweep.results.record import Count, EvaluationRow, Size

# Studies lie in this folder of the outputs.
FOLDER = "critical_batch_size"
TUNING, STEPS, ANSWERS = "tuning.csv", "steps_to_target.csv", "critical_batch_size.json"
BRANCHES, STUDY_FILE, STUDY_FORMAT = "branches.csv", "study.json", 1

Target = Annotated[str, Meta(pattern=f"^({'|'.join(each.name for each in fields(TargetsConfig))})$")]
Number = Annotated[float, Meta(ge=0, le=1e15)]
# Every one has a place on a logarithmic axis.
Positive = Annotated[float, Meta(gt=0, le=1e15)]
PositiveOrInfinite = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True)
class Column:
    """A column of a study's table: its type in pandas, and what a cell may hold; None is an empty one."""

    dtype: str
    cell: Any


OF_A_GOAL = {"target": Column("string", Target), "threshold": Column("Float64", Positive)}
SIZE, RATE, SEED = Column("Int64", Size), Column("Float64", PositiveOrInfinite | None), Column("Int64", Count)
STEPS_TAKEN = Column("Float64", PositiveOrInfinite | None)
TUNING_COLUMNS = {
    **{"batch_size": SIZE, "lr": RATE, "seed": SEED, **OF_A_GOAL},
    **{"reached": Column("boolean", bool), "iterations": RATE, "examples": RATE},
}
STEPS_COLUMNS = {
    **{**OF_A_GOAL, "batch_size": SIZE, "lr": RATE, "seeds": SEED},
    **dict.fromkeys(("median", "low", "high", "tuned_median"), STEPS_TAKEN),
    "real_batch_size": Column("Float64", Positive),
}
BRANCHES_COLUMNS = {
    **{"batch_size": SIZE, "lr": RATE, "seed": SEED, "examples": SIZE},
    **{"train_loss": STEPS_TAKEN, "tolerance": Column("Float64", Positive)},
}


def study_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return rows as the table of a study that has these columns."""
    return pd.DataFrame(rows, columns=list(columns)).astype({name: column.dtype for name, column in columns.items()})


def read_study_table(path: Path, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Read a table that `study_table` made. Raises `UnreadableRecord` if it holds something else, with the column."""
    rows = read_csv(path, STUDY_BYTES, list(columns))
    name = ""
    try:
        for name, column in columns.items():
            for row in rows:
                row[name] = msgspec.convert(row[name] or None, column.cell, strict=False)
    except msgspec.ValidationError as error:
        raise UnreadableRecord(f"{path.name}: {name}: {error}") from error
    return study_table(rows, columns)


def read_steps(path: Path) -> pd.DataFrame:
    """Read `steps_to_target.csv` as `read_study_table` does; a study from before real batch sizes has the nominal."""
    header = read_file(path, STUDY_BYTES).partition(b"\n")[0]
    if b"real_batch_size" in header:
        return read_study_table(path, STEPS_COLUMNS)
    table = read_study_table(path, {name: each for name, each in STEPS_COLUMNS.items() if name != "real_batch_size"})
    return table.assign(real_batch_size=table["batch_size"].astype("Float64"))


@dataclass(frozen=True)
class Law:
    """Steps S against the batch size B: S^a = s_min^a + (e_min / B)^a, with the exponent a.

    `b_crit` is e_min / s_min (McCandlish et al. 2018, with a = 1). The members may be arrays, a law an element.
    """

    s_min: Any
    b_crit: Any
    exponent: Any

    def steps(self, batch_size: Any) -> Any:
        """Return the steps at a batch size."""
        return self.s_min * (1 + (self.b_crit / batch_size) ** self.exponent) ** (1 / self.exponent)

    def batch_size(self, more: float) -> Any:
        """Return the batch size that needs so much more examples than the fewest, as a share of them."""
        return self.b_crit * ((1 + more) ** self.exponent - 1) ** (1 / self.exponent)


@dataclass(frozen=True)
class Check:
    """A batch size that is in no fit, run: steps on fresh seeds beside the steps that the fit expects.

    `median`, `low` and `high` are None if they are infinite: the goal was not reached. `neighbours` has the median
    steps at the next batch sizes of the fit, the one below and the one above, if they reached the goal.
    """

    batch_size: Size
    lr: Number | None
    seeds: Count
    expected: Number
    median: Number | None
    low: Number | None
    high: Number | None
    neighbours: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Factor:
    """How far quick answers lay from those of full studies: at most `times` either way in `held` of `of` of them."""

    times: Annotated[float, Meta(ge=1, le=1e3)]
    held: Count
    of: Size


@dataclass(frozen=True)
class Answer:
    """What a study says of one goal, an entry of `critical_batch_size.json`.

    Steps follow the `Law` of `s_min`, `b_crit` and `exponent`, with e_min = s_min b_crit; if the runs cannot tell,
    these are None and `reason` says why. `b_20` is the batch size that needs 20 % more examples than the fewest (Zhang
    et al. 2024). An interval `*_low` to `*_high` holds its number with 95 %, and is None with fewer than 3 fresh seeds.
    `leave_one_out` has the critical batch size without each batch size, `residuals` the logarithm of measured over
    fitted steps, `p_value` the probability of residuals as large if the law holds. `missing_seeds` are fresh ones whose
    runs failed: they are in no median.

    The costs of an iteration and of an example are in seconds, measured or as given (`cost_is_given`); if those of a
    step were measured on another `machine`, `seconds_per_step` has them by batch size in their place. From
    `within_low` to `within_high` the time is at most 10 % above that at `soonest_batch_size`, and at the costs of the
    machine that ran the study from `within_low_here` to `within_high_here`. `examples_more` is the share of examples
    that the soonest one needs beyond the fewest possible. `price` is that of an hour of the machine, in money.

    `noise_scale_at_target` is the geometric mean of the gradient noise scale over the last doubling of steps before the
    goal, over all runs that measured it, with one standard deviation of its logarithms to each side.
    """

    target: Target
    threshold: Positive
    s_min: Number | None = None
    e_min: Number | None = None
    b_crit: Number | None = None
    b_crit_low: Number | None = None
    b_crit_high: Number | None = None
    leave_one_out: dict[str, float | None] | None = None
    residuals: dict[str, float] | None = None
    reason: str | None = None
    seconds_per_iteration: Number | None = None
    seconds_per_example: Number | None = None
    cost_is_given: bool = False
    soonest_batch_size: Number | None = None
    examples_more: Number | None = None
    noise_scale_at_target: Number | None = None
    check: Check | None = None
    exponent: Number | None = None
    exponent_low: Number | None = None
    exponent_high: Number | None = None
    p_value: Number | None = None
    b_20: Number | None = None
    b_20_low: Number | None = None
    b_20_high: Number | None = None
    soonest_low: Number | None = None
    soonest_high: Number | None = None
    within_low: Number | None = None
    within_high: Number | None = None
    missing_seeds: Count = 0
    noise_scale_low: Number | None = None
    noise_scale_high: Number | None = None
    machine: Annotated[str, Meta(max_length=200)] | None = None
    seconds_per_step: Annotated[dict[Size, Positive], Meta(min_length=2, max_length=100)] | None = None
    soonest_here: Number | None = None
    within_low_here: Number | None = None
    within_high_here: Number | None = None
    price: Positive | None = None
    factor: Factor | None = None

    @property
    def around_b_crit(self) -> tuple[float | None, float | None]:
        """The ends of the interval of `b_crit`; of a quick answer, which has none, its factor to each side."""
        if self.b_crit is None or self.factor is None:
            return self.b_crit_low, self.b_crit_high
        return self.b_crit / self.factor.times, self.b_crit * self.factor.times

    @property
    def law(self) -> Law | None:
        """The law of the steps; None if it cannot be told. Files without an exponent have 1."""
        if self.s_min is None or self.b_crit is None:
            return None
        return Law(self.s_min, self.b_crit, self.exponent or 1.0)


def write_answers(folder: Path, answers: Sequence[Answer]) -> None:
    """Replace `critical_batch_size.json`. Raises OSError if it cannot be written."""
    write_json(folder / ANSWERS, list(answers))


def read_answers(folder: Path) -> list[Answer]:
    """Read `critical_batch_size.json`. Raises `UnreadableRecord` if it holds something else than answers."""
    kind = Annotated[list[Answer], Meta(min_length=1)]
    return read_json(folder / ANSWERS, RECORD_BYTES, kind)


@dataclass(frozen=True)
class Pilot:
    """The pilot runs of a quick study: their batch size, and how many examples they train on at most."""

    batch_size: Size
    examples: Size


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """`study.json`: what a study is asked to find out.

    `settings` are the keys `critical.`, `configs` the keys of each batch size that may change a result.
    `checked` is the batch size that is run to check the answer of a goal, by the goal: it follows from measured
    seconds, which are not the same twice. `counter` is one more than that of the studies that were there before.
    `pilot` says by which runs the goals of a quick study follow: a full one that goes on from it has the same.
    """

    format: int = STUDY_FORMAT
    started_at: str
    counter: int = 0
    settings: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    checked: dict[str, Size] = field(default_factory=dict)
    pilot: Pilot | None = None

    @property
    def is_quick(self) -> bool:
        """Whether it is a quick study."""
        return bool(self.settings.get("quick"))


def write_study(folder: Path, study: StudyFile) -> None:
    """Write `study.json`. Raises OSError if it cannot be written."""
    write_json(folder / STUDY_FILE, study)


def read_study(folder: Path) -> StudyFile:
    """Read `study.json`. Raises `UnreadableRecord` if that is not possible."""
    study = read_json(folder / STUDY_FILE, RECORD_BYTES, StudyFile)
    check_format(STUDY_FILE, study.format, STUDY_FORMAT)
    return study


def studies_in(parent: Path) -> list[Path]:
    """Return the folder of every study in a folder, oldest first."""
    return by_start(parent, read_study)


def find_study(resume: str, parent: Path) -> Path:
    """Return the folder that `resume=` names, `latest` being the study in `parent` that was started last.

    Raises `CannotResume` if there is no study.
    """
    try:
        if resume != "latest":
            read_study(folder := Path(expand_home(resume)))
            return folder
        if studies := studies_in(parent):
            return newest_own(studies, STUDY_FILE, "study")
        raise UnreadableRecord(f"{parent}: no study here yet")
    except (FileNotFoundError, UnreadableRecord) as error:
        raise CannotResume(f"resume={resume}: {error}") from error


# They divide every coordinate of a gradient, or of its running mean, by the root of its mean square.
DIVIDE_BY_THE_ROOT = ("adam", "adamw", "rmsprop", "nadam", "radam")


@dataclass(frozen=True)
class Trust:
    """In which share of the comparisons a hint lay within a factor of 1.5, and of 2, of the critical batch size."""

    within_1_5: float
    within_2: float


# The critical batch sizes are those of full studies (`benchmarks/estimators.py`, December 1, 2026): eight settings of
# data and network with Adam, 102 runs to a goal; two with SGD, 24 runs.
IN_ITS_METRIC, PLAIN = Trust(0.42, 0.78), Trust(0.46, 0.67)


def divides_by_the_root(optimizer: Mapping[str, Any]) -> bool:
    """Return whether the optimizer of a run's configuration has a metric of its own: Adam and its kin do.

    The metric of every other one is taken for plain. One of the user's goes by the name of its class.
    """
    target = str(optimizer.get("target") or "").rpartition(":")[2].rpartition(".")[2]
    name = target if optimizer.get("name") == "own" and target else str(optimizer.get("name"))
    return name.lower() in DIVIDE_BY_THE_ROOT


def trust_in(optimizer: Mapping[str, Any]) -> Trust:
    """Return how far to trust the hint of a run with this optimizer, a section of its configuration."""
    return IN_ITS_METRIC if divides_by_the_root(optimizer) else PLAIN


def hint_of(rows: Sequence[EvaluationRow]) -> float | None:
    """Return the hint, in examples, from a run's evaluations; None if none of its last doubling has a finite reading.

    A reading before the first step says nothing of the training.
    """
    measured = [row for row in rows if row.optimizer_noise_scale is not None and row.iterations]
    last = measured[-1].iterations if measured else 0
    scales = [row.optimizer_noise_scale or 0 for row in measured if 2 * row.iterations >= last]
    logs = [math.log(scale) for scale in scales if 0 < scale < math.inf]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


COST_FILE, COST_FORMAT = "cost.json", 1
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

    format: int = COST_FORMAT
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
    write_json(path, cost)


def read_cost(path: Path) -> MachineCost:
    """Read a `cost.json`, which may come from somebody else.

    Raises `UnreadableRecord` if it holds something else, with the place and the reason.
    """
    cost = read_json(path, SMALL_BYTES, MachineCost)
    check_format(path.name, cost.format, COST_FORMAT)
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
