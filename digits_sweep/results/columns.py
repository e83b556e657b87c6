"""Every column of `summary.csv`, in its order: its type, its role, its meaning, and how it follows from a run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from digits_sweep.config.keys import KEY, results_of, value_of
from digits_sweep.config.schema import SEED, number_between, whole_number
from digits_sweep.config.text import to_text
from digits_sweep.results.critical import hint_of
from digits_sweep.results.record import HISTORY_FILE, THRESHOLD

if TYPE_CHECKING:
    from digits_sweep.results.run import RecordedRun


class ColumnRole(Enum):
    """What a column says of a run."""

    SETTING = "what the run was asked to do"
    OUTCOME = "what it resulted in"
    PROVENANCE = "what it was made with, and where it lies"


# The engine of a run whose loop is not this program's.
OWN_LOOP = "own loop"
# More keys than a person sweeps, and few enough for a table.
MOST_SWEPT = 50

# Computes a cell from a run; None leaves it empty.
Cell = Callable[["RecordedRun"], Any]


@dataclass(frozen=True)
class Column:
    """A column of `summary.csv`.

    `dtype` is the pandas type that keeps whole numbers whole and misses empty; `of` computes a cell. `keys` are the
    keys of a run's configuration that the column stands for. `mixture` names several values of a column that should
    have one value in a sweep.
    """

    name: str
    dtype: str
    role: ColumnRole
    meaning: str
    of: Cell
    keys: tuple[str, ...] = ()
    mixture: str | None = None


SETTING, OUTCOME, PROVENANCE = ColumnRole


def _key(name: str, dtype: str, key: str, meaning: str, mixture: str | None = None) -> Column:
    """Return a column that holds the value of one key."""
    return Column(name, dtype, SETTING, meaning, lambda run: value_of(run.record.config, key), (key,), mixture)


def _beta(index: int) -> Cell:
    def beta(run: "RecordedRun") -> Any:
        betas = value_of(run.record.config, "optimizer.betas")
        return betas[index] if isinstance(betas, list) and len(betas) == 2 else None

    return beta


def _model(run: "RecordedRun") -> str | None:
    name, head = (value_of(run.record.config, f"model.{key}") for key in ("name", "head"))
    return name if head in ("softmax", None) else f"{name}_{head}"


def _versions(run: "RecordedRun", name: str) -> str | None:
    """What a run was made with: `2.15.0`, or `2.14.1 (from epoch 1), 2.15.0 (from epoch 6)`."""
    versions: list[tuple[str, int]] = []
    for environment in run.record.environments:
        version = environment.get(name) or environment.get("packages", {}).get(name)
        if version and (not versions or versions[-1][0] != version):
            versions.append((str(version), environment.get("from_epoch", 1)))
    if len(versions) < 2:
        return versions[0][0] if versions else None
    return ", ".join(f"{version} (from epoch {first})" for version, first in versions)


def _ended(run: "RecordedRun") -> str | None:
    stops = value_of(run.record.config, "trainer.stop_at_threshold") and run.first_epoch_below_threshold
    return run.record.ended or (THRESHOLD if stops else None)


def _examples_per_second(run: "RecordedRun") -> float | None:
    seconds, samples = run.seconds_per_epoch, run.record.train_samples
    return samples / seconds if seconds and samples else None


def _seconds_first_epoch(run: "RecordedRun") -> float | None:
    return run.history[0].seconds if run.history and run.history[0].complete else None


def _unless_unknown(cell: Cell) -> Cell:
    """Return `cell`, left empty for a run whose history cannot be read."""
    return lambda run: None if HISTORY_FILE in run.misfits else cell(run)


# Every column that a table always has; one for each key that was swept and has none here comes after them.
COLUMNS = (
    _key("batch_size", "Int64", "data.batch_size", "examples per iteration"),
    _key("lr", "Float64", "optimizer.lr", "learning rate"),
    _key("weight_decay", "Float64", "optimizer.weight_decay", "L2 added to the gradient"),
    _key("seed", "Int64", "seed", "seed of the initial weights and of the order of every epoch"),
    Column(
        "seconds_per_epoch", "Float64", OUTCOME, "median over the epochs, without the first one of each process",
        lambda run: run.seconds_per_epoch,
    ),
    Column(
        "first_epoch_below_threshold", "Int64", OUTCOME, "first epoch with a mean loss below it; empty: not reached",
        lambda run: run.first_epoch_below_threshold,
    ),
    _key("loss_threshold", "Float64", "trainer.loss_threshold", "the threshold", mixture="thresholds"),
    Column(
        "seconds_to_threshold", "Float64", OUTCOME,
        "seconds of training until the running loss is first below it; empty: not reached",
        lambda run: run.seconds_until(run.crossing.iterations) if run.crossing else None,
    ),
    Column("final_loss", "Float64", OUTCOME, "mean loss of the last epoch", lambda run: run.final_loss),
    Column(
        "epochs", "Int64", OUTCOME, "finished epochs; empty: a loop without epochs",
        _unless_unknown(lambda run: run.epochs if run.has_epochs else None),
    ),
    Column(
        "status", "string", OUTCOME, "completed, diverged, interrupted, failed, or unknown: its files cannot be read",
        lambda run: str(run.status),
    ),
    Column(
        "dataset", "string", SETTING, "data set that was trained on", lambda run: run.record.dataset, ("data.name",),
        "data sets",
    ),
    Column(
        "train_samples", "Int64", SETTING, "examples in its training set", lambda run: run.record.train_samples,
    ),
    Column(
        "model", "string", SETTING, "network, and its head if that is not the softmax", _model,
        ("model.name", "model.head"),
    ),
    _key("hidden_size", "Int64", "model.hidden_size", "units in every hidden layer"),
    _key("optimizer", "string", "optimizer.name", "optimizer"),
    Column(
        "engine", "string", SETTING, "engine that trained", lambda run: run.record.engine, ("engine.name",), "engines",
    ),
    Column(
        "device", "string", SETTING, "device that it trained on", lambda run: run.record.device, ("device",), "devices",
    ),
    Column("num_threads", "Int64", SETTING, "CPU threads", lambda run: run.record.num_threads, ("num_threads",)),
    Column(
        "iterations_per_epoch", "Int64", OUTCOME, "iterations in an epoch; empty: the batch grows",
        lambda run: run.iterations_per_epoch,
    ),
    Column("seconds_first_epoch", "Float64", OUTCOME, "seconds of the first epoch", _seconds_first_epoch),
    Column(
        "examples_per_second", "Float64", OUTCOME, "examples trained on per second, from seconds_per_epoch",
        _examples_per_second,
    ),
    Column(
        "test_accuracy", "Float64", OUTCOME, "share of the test set predicted correctly after the last epoch",
        lambda run: run.record.test_accuracy,
    ),
    Column(
        "classes_never_predicted", "Int64", OUTCOME, "classes that are never predicted on the test set",
        lambda run: run.record.classes_never_predicted,
    ),
    Column(
        "concurrent_runs", "Int64", PROVENANCE, "runs of the sweep that trained at once on the machine",
        lambda run: run.record.concurrent_runs,
    ),
    Column(
        "torch_version", "string", PROVENANCE, "version of torch; several: with the epochs that each made",
        lambda run: _versions(run, "torch"), mixture="versions of torch",
    ),
    Column(
        "git_commit", "string", PROVENANCE, "commit of this program; several: with the epochs that each made",
        lambda run: _versions(run, "git_commit"), mixture="commits of this program",
    ),
    Column("started_at", "string", PROVENANCE, "start of the run in UTC", lambda run: run.record.started_at),
    Column(
        "run_dir", "string", PROVENANCE, "folder of the run, relative to the table's folder if it lies inside",
        lambda run: run.name,
    ),
    Column(
        "resumes", "Int64", PROVENANCE, "how often the run was resumed", lambda run: len(run.record.resumed_after),
    ),
    Column(
        "error", "string", OUTCOME, "why the run failed: the last line of its traceback; or which file cannot be read",
        lambda run: "; ".join(filter(None, [run.record.error_line, run.misfit])) or None,
    ),
    Column("beta1", "Float64", SETTING, "Adam's decay rate of the first moment", _beta(0), ("optimizer.betas",)),
    Column("beta2", "Float64", SETTING, "Adam's decay rate of the second moment", _beta(1), ("optimizer.betas",)),
    _key("eps", "Float64", "optimizer.eps", "Adam's epsilon"),
    Column(
        "examples_to_threshold", "Int64", OUTCOME,
        "examples until the running loss, over a twentieth of the training set, is first below it; empty: not reached",
        lambda run: run.crossing.examples if run.crossing else None,
    ),
    Column(
        "iterations_to_threshold", "Int64", OUTCOME, "iterations until then",
        lambda run: run.crossing.iterations if run.crossing else None,
    ),
    Column(
        "iterations", "Int64", OUTCOME, "iterations that the run has trained",
        _unless_unknown(lambda run: run.iterations),
    ),
    _key("rule", "string", "scaling.rule", "rule that scales the rates with the batch size; empty: none"),
    _key("scale", "string", "data.scale", "how the images are scaled"),
    _key("head", "string", "model.head", "what the network ends with"),
    _key("hidden_layers", "Int64", "model.hidden_layers", "hidden layers"),
    _key("activation", "string", "model.activation", "activation behind every hidden layer"),
    Column(
        "ended", "string", OUTCOME, "why the run ended before its last epoch; its last loss and accuracy are of then",
        _ended,
    ),
    Column(
        "parameters", "Int64", OUTCOME, "numbers of the network that are trained", lambda run: run.record.parameters,
    ),
    Column(
        "peak_memory_mb", "Float64", OUTCOME, "most memory of its process, resident, while it ran, in MB",
        lambda run: run.record.peak_memory_mb,
    ),
    Column(
        "peak_cuda_memory_mb", "Float64", OUTCOME, "most memory that it allocated on a CUDA device, in MB",
        lambda run: run.record.peak_cuda_memory_mb,
    ),
    Column(
        "not_measured", "string", OUTCOME, "what could not be measured, and why; the run is what it would be otherwise",
        lambda run: "; ".join(f"{name}: {why}" for name, why in run.record.not_measured.items()) or None,
    ),
    Column(
        "batch_size_hint", "Float64", OUTCOME,
        "critical batch size, guessed from its gradients: their noise scale over the last doubling of iterations",
        lambda run: hint_of(run.evaluations),
    ),
    _key(
        "batch_schedule", "string", "schedule.batch",
        "sizes of a batch that grows, by examples trained, or grow; `batch_size` is the first; empty: one size",
    ),
)  # fmt: skip


# What a run may be given, whoever trains it: products of two whole numbers still fit 64 bits.
LIMITS = {
    "batch_size": whole_number(1, 10**9),
    "train_samples": whole_number(1, 10**9),
    "lr": number_between(0, 1e12),
    "weight_decay": number_between(0, 1e12),
    "loss_threshold": number_between(-1e12, 1e12),
    "seed": SEED,
}
COVERED = {key for column in COLUMNS for key in column.keys}


def swept_keys(configs: Iterable[dict[str, Any]]) -> list[str]:
    """Return the keys without a column of their own that may change a result and differ between configurations."""
    flat_configs = [results_of(config) for config in configs]
    keys = dict.fromkeys(key for config in flat_configs for key in config if key not in COVERED and KEY.fullmatch(key))
    return [key for key in keys if len({cell_of(config, key) for config in flat_configs}) > 1][:MOST_SWEPT]


def cell_of(config: dict[str, Any], key: str) -> str | None:
    """Return the value of a key in a flat configuration as a cell of its column; None if the run has no such key."""
    return to_text(config[key]) if key in config else None


def cells_of(run: "RecordedRun") -> dict[str, Any]:
    """Return a run's cells by the name of the column, for every column that a table always has."""
    # Read first: if the losses cannot be, that is a misfit, which other cells tell.
    _ = run.crossing
    return {column.name: column.of(run) for column in COLUMNS}
