"""Every column of `summary.csv`, in its order: its type, its role, its meaning, and how it follows from a record."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from digits_sweep.config.keys import KEY, results_of, value_of
from digits_sweep.config.text import to_text
from digits_sweep.results.record import EpochRow, Record, first_epoch_below, seconds_per_epoch, seconds_until


class ColumnRole(Enum):
    """What a column says of a run."""

    SETTING = "what the run was asked to do"
    OUTCOME = "what it resulted in"
    PROVENANCE = "what it was made with, and where it lies"


# The engine of a run whose loop is not this program's.
OWN_LOOP = "own loop"
# More keys than a person sweeps, and few enough for a table.
MOST_SWEPT = 50

# Computes a cell from a run's record and its epochs so far; None leaves it empty.
Cell = Callable[[Record, Sequence[EpochRow]], Any]


@dataclass(frozen=True)
class Column:
    """A column of `summary.csv`.

    `dtype` is the pandas type that keeps whole numbers whole and misses empty. `keys` are the keys of a run's
    configuration that the column stands for. `of` computes a cell; without it the run itself fills the cell in.
    `mixture` names several values of a column that should have one value in a sweep.
    """

    name: str
    dtype: str
    role: ColumnRole
    meaning: str
    keys: tuple[str, ...] = ()
    of: Cell | None = None
    mixture: str | None = None


SETTING, OUTCOME, PROVENANCE = ColumnRole


def _key(name: str, dtype: str, key: str, meaning: str, mixture: str | None = None) -> Column:
    """Return a column that holds the value of one key."""
    return Column(name, dtype, SETTING, meaning, (key,), lambda record, _: value_of(record.config, key), mixture)


def _beta(place: int) -> Cell:
    def beta(record: Record, history: Sequence[EpochRow]) -> Any:
        betas = value_of(record.config, "optimizer.betas")
        return betas[place] if isinstance(betas, list) and len(betas) == 2 else None

    return beta


def _model(record: Record, history: Sequence[EpochRow]) -> str | None:
    name, head = (value_of(record.config, f"model.{key}") for key in ("name", "head"))
    return name if head in ("softmax", None) else f"{name}_{head}"


def _threshold(record: Record) -> float:
    return record.config["trainer"]["loss_threshold"]


def _versions(record: Record, name: str) -> str | None:
    """What a run was made with: `2.15.0`, or `2.14.1 (from epoch 1), 2.15.0 (from epoch 6)`."""
    found: list[tuple[str, int]] = []
    for environment in record.environments:
        version = environment.get(name) or (environment.get("packages") or {}).get(name)
        if version and (not found or found[-1][0] != version):
            found.append((str(version), environment.get("from_epoch", 1)))
    if len(found) < 2:
        return found[0][0] if found else None
    return ", ".join(f"{version} (from epoch {first})" for version, first in found)


def _seconds_to_threshold(record: Record, history: Sequence[EpochRow]) -> float | None:
    summary = record.summary
    if not (iterations := summary.get("iterations_to_threshold")):
        return None
    return seconds_until(history, iterations, summary["iterations_per_epoch"], summary["iterations"])


def _ended(record: Record, history: Sequence[EpochRow]) -> str | None:
    stops = record.config["trainer"].get("stop_at_threshold") and first_epoch_below(history, _threshold(record))
    return record.ended or ("trainer.loss_threshold reached" if stops else None)


def _examples_per_second(record: Record, history: Sequence[EpochRow]) -> float | None:
    seconds = seconds_per_epoch(history, record.resumed_after)
    return record.summary["train_samples"] / seconds if seconds else None


# Every column that a table always has; one for each key that was swept and has none here comes after them.
COLUMNS = (
    _key("batch_size", "Int64", "data.batch_size", "examples per iteration"),
    _key("lr", "Float64", "optimizer.lr", "learning rate"),
    _key("weight_decay", "Float64", "optimizer.weight_decay", "L2 added to the gradient"),
    _key("seed", "Int64", "seed", "seed of the initial weights and of the order of every epoch"),
    Column(
        "seconds_per_epoch", "Float64", OUTCOME, "median over the epochs, without the first one of each process",
        of=lambda record, history: seconds_per_epoch(history, record.resumed_after),
    ),
    Column(
        "first_epoch_below_threshold", "Int64", OUTCOME, "first epoch with a mean loss below it; empty: not reached",
        of=lambda record, history: first_epoch_below(history, _threshold(record)),
    ),
    _key("loss_threshold", "Float64", "trainer.loss_threshold", "the threshold", mixture="thresholds"),
    Column(
        "seconds_to_threshold", "Float64", OUTCOME,
        "seconds of training until the running loss is first below it; empty: not reached",
        of=_seconds_to_threshold,
    ),
    Column(
        "final_loss", "Float64", OUTCOME, "mean loss of the last epoch",
        of=lambda record, history: history[-1].loss_mean if history else None,
    ),
    Column(
        "epochs", "Int64", OUTCOME, "finished epochs",
        of=lambda record, history: sum(row.complete for row in history),
    ),
    Column("status", "string", OUTCOME, "completed, diverged, interrupted or failed"),
    Column("dataset", "string", SETTING, "data set that was trained on", ("data.name",), mixture="data sets"),
    Column("train_samples", "Int64", SETTING, "examples in its training set"),
    Column(
        "model", "string", SETTING, "network, and its head if that is not the softmax",
        ("model.name", "model.head"), _model,
    ),
    _key("hidden_size", "Int64", "model.hidden_size", "units in every hidden layer"),
    _key("optimizer", "string", "optimizer.name", "optimizer"),
    Column("engine", "string", SETTING, "engine that trained", ("engine.name",), mixture="engines"),
    Column("device", "string", SETTING, "device that it trained on", ("device",), mixture="devices"),
    Column("num_threads", "Int64", SETTING, "CPU threads", ("num_threads",)),
    Column("iterations_per_epoch", "Int64", OUTCOME, "iterations in an epoch"),
    Column(
        "seconds_first_epoch", "Float64", OUTCOME, "seconds of the first epoch",
        of=lambda record, history: history[0].seconds if history and history[0].complete else None,
    ),
    Column(
        "examples_per_second", "Float64", OUTCOME, "examples trained on per second, from seconds_per_epoch",
        of=_examples_per_second,
    ),
    Column("test_accuracy", "Float64", OUTCOME, "share of the test set predicted correctly after the last epoch"),
    Column("classes_never_predicted", "Int64", OUTCOME, "classes that are never predicted on the test set"),
    Column("concurrent_runs", "Int64", PROVENANCE, "runs of the sweep that trained at once on the machine"),
    Column(
        "torch_version", "string", PROVENANCE, "version of torch; several: with the epochs that each made",
        of=lambda record, _: _versions(record, "torch"), mixture="versions of torch",
    ),
    Column(
        "git_commit", "string", PROVENANCE, "commit of this program; several: with the epochs that each made",
        of=lambda record, _: _versions(record, "git_commit"), mixture="commits of this program",
    ),
    Column("started_at", "string", PROVENANCE, "start of the run in UTC"),
    Column("run_dir", "string", PROVENANCE, "folder of the run, relative to the table's folder if it lies inside"),
    Column("resumes", "Int64", PROVENANCE, "how often the run was resumed"),
    Column("error", "string", OUTCOME, "why the run failed: the last line of its traceback"),
    Column("beta1", "Float64", SETTING, "Adam's decay rate of the first moment", ("optimizer.betas",), _beta(0)),
    Column("beta2", "Float64", SETTING, "Adam's decay rate of the second moment", ("optimizer.betas",), _beta(1)),
    _key("eps", "Float64", "optimizer.eps", "Adam's epsilon"),
    Column(
        "examples_to_threshold", "Int64", OUTCOME,
        "examples until the running loss, over 3,000 examples, is first below the threshold; empty: not reached",
    ),
    Column("iterations_to_threshold", "Int64", OUTCOME, "iterations until then"),
    Column("iterations", "Int64", OUTCOME, "iterations that the run has trained"),
    _key("rule", "string", "scaling.rule", "rule that scales the rates with the batch size; empty: none"),
    _key("scale", "string", "data.scale", "how the images are scaled"),
    _key("head", "string", "model.head", "what the network ends with"),
    _key("hidden_layers", "Int64", "model.hidden_layers", "hidden layers"),
    _key("activation", "string", "model.activation", "activation behind every hidden layer"),
    Column(
        "ended", "string", OUTCOME, "why the run ended before its last epoch; its last loss and accuracy are of then",
        of=_ended,
    ),
    Column(
        "parameters", "Int64", OUTCOME, "numbers of the network that are trained",
        of=lambda record, _: record.parameters,
    ),
    Column("peak_memory_mb", "Float64", OUTCOME, "most memory of its process, resident, while it ran, in MB"),
    Column("peak_cuda_memory_mb", "Float64", OUTCOME, "most memory that it allocated on a CUDA device, in MB"),
)  # fmt: skip


COVERED = {key for column in COLUMNS for key in column.keys}


def swept_keys(configs: Iterable[dict[str, Any]]) -> list[str]:
    """Return the keys without a column of their own that may change a result and differ between configurations."""
    flat_configs = [results_of(config) for config in configs]
    keys = dict.fromkeys(key for config in flat_configs for key in config if key not in COVERED and KEY.fullmatch(key))
    return [key for key in keys if len({cell_of(config, key) for config in flat_configs}) > 1][:MOST_SWEPT]


def settings_of(record: Record) -> dict[str, Any]:
    """Return the settings that a record from before there were such columns lacks, from its configuration."""
    missing = (column for column in COLUMNS if column.role is SETTING and column.name not in record.summary)
    return {column.name: column.of(record, ()) for column in missing if column.of}


def cell_of(config: dict[str, Any], key: str) -> str | None:
    """Return the value of a key in a flat configuration as a cell of its column; None if the run has no such key."""
    return to_text(config[key]) if key in config else None


def fill(record: Record, history: Sequence[EpochRow]) -> None:
    """Compute every column of `record.summary` that follows from its configuration and the epochs so far."""
    record.summary |= {column.name: column.of(record, history) for column in COLUMNS if column.of}
