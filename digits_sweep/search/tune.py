"""The search with Optuna."""

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import MaxTrialsCallback, Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from digits_sweep.config.command_line import settings_of
from digits_sweep.config.compose import sqlite_address
from digits_sweep.config.keys import role_of
from digits_sweep.config.plan import Plan, plan
from digits_sweep.config.schema import MOST_SEEDS, ODD_SEEDS, Config, Role, Rule, key, one_of, whole_number
from digits_sweep.config.text import key_of, safe_name, to_text
from digits_sweep.errors import CannotSearch, InvalidConfig
from digits_sweep.results.columns import cells_of
from digits_sweep.results.lock import Owner, this_process
from digits_sweep.results.record import Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import DatasetChoice, Manifest
from digits_sweep.shell import held, let_through
from digits_sweep.sweep.run import StopRule, run

# The keys of an optimizer that a search tries values of.
SEARCHED = ("lr", "weight_decay")

# Far above what any search needs: a list of so many names is made for every trial.
MOST_TRIALS = 100_000

# What can be minimized, and the column of the summary that holds it.
OBJECTIVES = {
    "examples_to_threshold": "examples_to_threshold",
    "iterations_to_threshold": "iterations_to_threshold",
    "seconds_to_threshold": "seconds_to_threshold",
    "epochs_to_threshold": "first_epoch_below_threshold",
    "final_loss": "final_loss",
}


BOUNDS = Rule(
    lambda bounds: len(bounds) == 2 and 0 < bounds[0] < bounds[1] < math.inf,
    "must be two numbers above 0, the smaller one first",
)


@dataclass
class TuneConfig:
    """`conf/tune.yaml`, typed."""

    objective: str = key(one_of(*OBJECTIVES))
    trials: int = key(whole_number(1, MOST_TRIALS))
    seeds: int = key(ODD_SEEDS)
    confirm: int = key(whole_number(0, MOST_SEEDS))
    lr: list[float] = key(BOUNDS)
    weight_decay: list[float] = key(BOUNDS)
    start_from_lesson: bool = key()
    prune: bool = key()
    seed: int = key()
    study: str | None = key()
    storage: str | None = key()


def read_settings(arguments: Sequence[str]) -> tuple[TuneConfig, list[str]]:
    """Return the search's own settings, and the overrides that are left for its runs.

    Raises `InvalidConfig` with key, value and what would be right.
    """
    if flag := next((argument for argument in arguments if argument.startswith("-")), None):
        raise InvalidConfig(f"{flag}: not for a search; its keys are tune.... of conf/tune.yaml and those of a run")
    overrides = [argument for argument in arguments if not argument.startswith("tune.")]
    settings = settings_of(TuneConfig, "tune.yaml", "tune.", arguments)
    for typed in overrides:
        _check_override(typed)
    settings.study = safe_name(settings.study or "_".join([settings.objective, *sorted(overrides)]))
    return settings, overrides


def _check_override(typed: str) -> None:
    key = key_of(typed)
    # Trials run in this process, one after the other, and a search has its own way to continue.
    if key.startswith("hydra") or role_of(key) is Role.COMMAND:
        raise InvalidConfig(f"{typed}: not for a search; leave it out")
    group, _, name = key.partition(".")
    if group == "optimizer" and name in SEARCHED:
        raise InvalidConfig(f"{typed}: this is what is searched; tune.{name}=[low,high] sets between what")


def plan_trials(overrides: Sequence[str]) -> Plan:
    """Return the plan of the one run that every trial is, but for the rates that are searched.

    Raises `InvalidConfig` if a key is wrong or if the overrides are a sweep.
    """
    planned = plan(["-m", *overrides])
    if (runs := len(planned.runs)) > 1:
        values = zip(*(run.overrides for run in planned.runs), strict=True)
        swept = {key_of(texts[0]) for texts in values if len(set(texts)) > 1}
        typed = " ".join([each for each in overrides if key_of(each) in swept] or overrides)
        raise InvalidConfig(f"{typed}: is a sweep of {runs} runs; a search needs one value of every key")
    return planned


@cache
def lesson_rates() -> tuple[dict[str, float], ...]:
    """Return what the runs of `experiment=lesson` have for the searched keys, every combination once."""
    optimizers = [run.config.optimizer for run in plan(["experiment=lesson"]).runs]
    rates = [{name: getattr(optimizer, name) for name in SEARCHED} for optimizer in optimizers]
    return tuple(each for place, each in enumerate(rates) if each not in rates[:place])


# A process that has sent no heartbeat for so long is taken for dead, and its trial is started again.
HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 15, 60
# The packages of drivers whose modules have another name.
PACKAGES = {"MySQLdb": "mysqlclient", "psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary"}


@contextmanager
def opened_study(settings: TuneConfig, folder: Path, base: dict[str, Any]) -> Iterator[Study]:
    """Create the study in its store, or open it to continue, and close the store after the block.

    `base` is what must be the same for two trials to be comparable. Raises `CannotSearch` if the study is not one of
    this program's, if it was started with another base, or if its store cannot be used.
    """
    # This program reports itself that a trial was stopped or failed.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    storage = None
    try:
        # Processes that start together take turns: tables are created, and the lesson's rates added, once.
        with FileLock(folder / ".lock"):
            storage = _storage(settings, folder)
            study = optuna.create_study(
                storage=storage, study_name=settings.study, load_if_exists=True, direction="minimize"
            )
            if found := list(_differences(study, base)):
                raise CannotSearch(f"tune.study={study.study_name}: {'; '.join(found)}; give the study another name")
            study.set_user_attr("base", base)
            _start_lost_ones_again(study)
            _add_lesson(study, settings)
        # Every process samples on its own: with one seed, two of them would try the same values twice.
        study.sampler = optuna.samplers.TPESampler(seed=settings.seed + len(study.trials))
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        yield study
    except (SQLAlchemyError, StorageInternalError) as error:
        raise CannotSearch(f"tune.storage={to_text(settings.storage)}: {_first_line(error)}") from error
    finally:
        if storage:
            storage.remove_session()
            storage.engine.dispose()


def _storage(settings: TuneConfig, folder: Path) -> RDBStorage:
    # Optuna takes braces for the place of a version.
    address = settings.storage or sqlite_address(f"{folder}.db").replace("{", "{{").replace("}", "}}")
    with warnings.catch_warnings():
        # The heartbeat, by which a trial of a killed process is found, is one of Optuna's experimental features.
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return RDBStorage(
                address,
                engine_kwargs=None if settings.storage else {"connect_args": {"timeout": 60}},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
                heartbeat_stale_trial_callback=start_again,
            )
        except ImportError as error:
            raise CannotSearch(f"tune.storage={to_text(settings.storage)}: {_missing_driver(error)}") from error
        # An address can make SQLAlchemy, a driver or Optuna, which knows older tables, raise anything.
        except Exception as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise CannotSearch(f"tune.storage={to_text(settings.storage)}: {reason}") from error


def _missing_driver(error: ImportError) -> str:
    missing = getattr(error.__cause__, "name", None)
    if not missing:
        return _first_line(error)
    package = PACKAGES.get(missing, missing)
    return f"its driver {missing} is not installed; in the checkout, .venv/bin/pip install '{package}'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _differences(study: Study, base: dict[str, Any]) -> Iterator[str]:
    """Yield what makes it another study than is asked for. A key that its program did not have yet says nothing."""
    if len(study.directions) > 1:
        yield f"has {len(study.directions)} objectives, a search has one"
    elif study.direction is not StudyDirection.MINIMIZE:
        yield f"has the direction {study.direction.name.lower()}, a search has minimize"
    trials = study.get_trials(deepcopy=False)
    if others := sorted({name for trial in trials for name in trial.params} - set(SEARCHED)):
        yield f"has the parameters {', '.join(others)}, a search has {' and '.join(SEARCHED)}"
    before = study.user_attrs.get("base")
    if not isinstance(before, dict):
        if trials:
            yield f"has {len(trials)} trials that this program did not start"
        return
    # Before a trial could have several runs it had one.
    before = {"tune.seeds": 1} | before
    for name, value in base.items():
        if name in before and before[name] != value:
            yield f"{name} was {to_text(before[name])}, is now {to_text(value)}"


def _start_lost_ones_again(study: Study) -> None:
    """Take up the trials of processes of this machine that are gone, without waiting for their heartbeat to stop."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        process = trial.user_attrs.get("process")
        if isinstance(process, dict) and Owner(**process).is_gone():
            # In this order: a process that dies in between leaves a trial too many, which is found, and none too few.
            start_again(study, trial)
            study.tell(trial.number, state=TrialState.FAIL)


def start_again(study: Study, trial: FrozenTrial) -> None:
    """Add a trial that resumes, in the same folder, one whose process died or was stopped."""
    folder = trial.user_attrs.get("folder")
    others = (each for each in study.get_trials(deepcopy=False) if each.number != trial.number)
    if folder and not any(each.user_attrs.get("folder") == folder and _holds(each) for each in others):
        kept = {name: each for name, each in trial.user_attrs.items() if name in ("folder", "most_examples")}
        # Whoever takes it says so a moment later: if that one dies in between, this process is the one that is gone.
        study.enqueue_trial(trial.params, user_attrs={**kept, "process": asdict(this_process())})


def _add_lesson(study: Study, settings: TuneConfig) -> None:
    """Add a trial with each of the lesson's rates that are searched, unless there is one that did not fail."""
    held = [_rates(trial) for trial in study.get_trials(deepcopy=False) if _holds(trial)]
    for rates in lesson_rates() if settings.start_from_lesson else ():
        if rates not in held and all(_inside(getattr(settings, name), rates[name]) for name in SEARCHED):
            study.enqueue_trial(rates)


def _holds(trial: FrozenTrial) -> bool:
    """Return whether the rates of a trial have been tried, or will be: one that has started has a folder."""
    has_started = trial.state is not TrialState.RUNNING or "folder" in trial.user_attrs
    return trial.state is not TrialState.FAIL and has_started


def _rates(trial: FrozenTrial) -> dict[str, float]:
    return trial.params or trial.system_attrs.get("fixed_params", {})


def _inside(bounds: Sequence[float], value: float) -> bool:
    return bounds[0] <= value <= bounds[1]


DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def search(study: Study, settings: TuneConfig, config: Config, dataset: DatasetChoice, folder: Path) -> None:
    """Run trials until the study has `settings.trials`, whichever process ran them.

    Raises `CannotSearch` if a trial fails, and what `sweep.run.run` raises.
    """
    if len(study.get_trials(states=DONE)) < settings.trials:
        enough = MaxTrialsCallback(settings.trials, states=DONE)
        # Optuna has a thread for every trial; stopped where it starts or ends that, it would leave it for ever.
        with held():
            study.optimize(_Objective(study, settings, config, dataset, folder), callbacks=[enough])


@dataclass(frozen=True)
class _Objective:
    """What Optuna calls for every trial: a run in a folder of its own."""

    study: Study
    settings: TuneConfig
    config: Config
    dataset: DatasetChoice
    folder: Path

    def __call__(self, trial: Trial) -> float:
        try:
            with let_through():
                return self._value(trial)
        except KeyboardInterrupt:
            start_again(self.study, self.study.trials[trial.number])
            raise

    def _value(self, trial: Trial) -> float:
        config = copy.deepcopy(self.config)
        for name in SEARCHED:
            low, high = getattr(self.settings, name)
            setattr(config.optimizer, name, trial.suggest_float(name, low, high, log=True))
        name = trial.user_attrs.get("folder", f"trial_{trial.number:04d}")
        config = until_decided(config, self.settings, trial.user_attrs.get("most_examples", self._most_examples()))
        trial.set_user_attr("process", asdict(this_process()))
        trial.set_user_attr("most_examples", config.trainer.max_examples)
        trial.set_user_attr("folder", name)
        values: list[float] = []
        for place in range(self.settings.seeds):
            values.append(self._run(trial, config, name, place))
            trial.set_user_attr("values", [to_text(value) for value in values])
            # Most of its runs are no better than the best median, so its own median cannot be.
            if self.settings.prune and sum(value >= self._best() for value in values) > self.settings.seeds // 2:
                raise optuna.TrialPruned(f"given up after {len(values)} runs: most are no better than the best median")
        return median(values)

    def _run(self, trial: Trial, config: Config, name: str, place: int) -> float:
        """Train one run of a trial and return its objective; infinity if it was given up."""
        number = self.settings.seeds * number_of(name) + place
        record = seeded_run(
            config, place, self.folder, name, number, self.dataset, partial(self._hopeless, trial, place)
        )
        return math.inf if record.status is Status.INTERRUPTED else objective(self.settings.objective, record)

    def _hopeless(self, trial: Trial, place: int, record: RecordedRun) -> str | None:
        """Return why this run cannot help its trial to the best median, or None."""
        history = record.history
        last, objective = history[-1], self.settings.objective
        if not self.settings.prune or not math.isfinite(last.loss_mean):
            return None
        if objective == "final_loss":
            # One seed of every trial is compared with the same seed of the others.
            if place == 0:
                trial.report(last.loss_mean, last.epoch)
            worse = place == 0 and trial.should_prune()
            why = f"given up after epoch {last.epoch}: its loss is above the median of the trials at that epoch"
            return why if worse else None
        reached = cells_of(record)[OBJECTIVES[objective]] is not None
        spent = {"seconds_to_threshold": math.fsum(row.seconds for row in history), "epochs_to_threshold": last.epoch}
        if reached or spent.get(objective, 0) < self._best():
            return None
        return f"given up after epoch {last.epoch}: the best median was below the threshold by then"

    def _best(self) -> float:
        """The best median so far."""
        completed = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return min((trial.value for trial in completed if trial.value is not None), default=math.inf)

    def _most_examples(self) -> int | None:
        """How many examples a run may take until it is no better than the best median; None if that is not known."""
        per_unit = {"examples_to_threshold": 1, "iterations_to_threshold": self.config.data.batch_size}
        best = self._best()
        if not self.settings.prune or self.settings.objective not in per_unit or math.isinf(best):
            return None
        return math.ceil(best) * per_unit[self.settings.objective]


def until_decided(config: Config, settings: TuneConfig, most_examples: int | None) -> Config:
    """Return `config` for runs that end once they are decided.

    What comes after the threshold counts for the last loss only; nor does a run that needs more than `most_examples`.
    """
    limits = [each for each in (config.trainer.max_examples, most_examples) if each is not None]
    stops = config.trainer.stop_at_threshold or settings.objective != "final_loss"
    trainer = replace(config.trainer, stop_at_threshold=stops, max_examples=min(limits, default=None))
    return replace(config, trainer=trainer)


def seeded_run(
    config: Config, place: int, folder: Path, name: str, number: int, dataset: DatasetChoice, enough: StopRule | None
) -> RecordedRun:
    """Train, or resume, the run of `config` with the seed `place` places after its own, in `folder`.

    Raises `CannotSearch` if it fails.
    """
    config = replace(config, seed=config.seed + place)
    own = f"{name}_seed={config.seed}"
    # The screen says which run this is of how many; nobody knows how many a search will have.
    record = run(config, folder / own, number, Manifest([], [own] * (number + 1), [dataset]), enough)
    if record.status is Status.FAILED:
        raise CannotSearch(f"{own} failed: {record.record.error_line}")
    return record


def number_of(name: str) -> int:
    """Return the number in a trial's folder name, which a trial keeps that is started again."""
    return int(name.removeprefix("trial_"))


def objective(name: str, record: RecordedRun) -> float:
    """Return the objective of one run: infinity if it diverged or did not reach the threshold."""
    value = record.row[OBJECTIVES[name]]
    return math.inf if value is None or not math.isfinite(float(value)) else float(value)


@dataclass(frozen=True)
class Confirmed:
    """The best trial's median as it was searched for, and the values of its rates on fresh seeds."""

    trial: FrozenTrial
    tuned: float
    values: list[float]

    @property
    def median(self) -> float:
        """The median over the fresh seeds; infinite if half of them or more missed the threshold."""
        return median(self.values)


def best_trial(study: Study) -> FrozenTrial | None:
    """Return the trial with the best median; None if none reached the threshold."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    finite = [trial for trial in completed if trial.value is not None and trial.value < float("inf")]
    return min(finite, key=lambda trial: trial.values[0], default=None)


def confirm(
    study: Study, settings: TuneConfig, config: Config, dataset: DatasetChoice, folder: Path
) -> Confirmed | None:
    """Train the best trial's rates with `settings.confirm` seeds that no trial had; recorded runs in `folder`.

    Runs that are recorded already are not trained again. Return None if there is nothing to confirm. Raises
    `CannotSearch` if a run fails, and what `sweep.run.run` raises.
    """
    trial = best_trial(study)
    if trial is None or not settings.confirm:
        return None
    assert trial.value is not None
    optimizer = replace(config.optimizer, **{name: trial.params[name] for name in SEARCHED})
    config = until_decided(replace(config, optimizer=optimizer), settings, None)
    folder.mkdir(parents=True, exist_ok=True)
    # Of several processes that end together, one trains.
    with FileLock(folder / ".lock"):
        records = [
            seeded_run(config, settings.seeds + place, folder, trial.user_attrs["folder"], place, dataset, None)
            for place in range(settings.confirm)
        ]
    return Confirmed(trial, trial.value, [objective(settings.objective, record) for record in records])


def best_trials(study: Study, objective: str, most: int) -> tuple[list[str], list[list[str]]]:
    """Return a header, and a row for each of the `most` best trials and for those with the lesson's rates."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    ranked = sorted((trial for trial in trials if trial.state == TrialState.COMPLETE), key=_value)
    given = [trial for trial in trials if "fixed_params" in trial.system_attrs]
    shown = list(dict.fromkeys([trial.number for trial in [*ranked[:most], *given]]))
    by_number = {trial.number: trial for trial in trials}
    names = [name.replace("_", " ") for name in (*SEARCHED, objective)]
    return ["trial", *names, "runs"], [_row(by_number[number]) for number in shown]


def _value(trial: FrozenTrial) -> float:
    return float("inf") if trial.value is None else trial.value


def _row(trial: FrozenTrial) -> list[str]:
    value = "given up" if trial.state == TrialState.PRUNED else _written(_value(trial))
    rates = [to_text(float(f"{trial.params[name]:.3g}")) for name in SEARCHED]
    runs = ", ".join(_written(float(each)) for each in trial.user_attrs.get("values", []))
    return [str(number_of(trial.user_attrs["folder"])), *rates, value, runs]


def _written(value: float) -> str:
    return "not reached" if value == float("inf") else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def confirmation(confirmed: Confirmed, objective: str) -> str:
    """Say what the best trial's rates give on fresh seeds, beside what they gave in the search."""
    found, name = confirmed.median, objective.replace("_", " ")
    rates = ", ".join(f"{rate.replace('_', ' ')} {confirmed.trial.params[rate]:.3g}" for rate in SEARCHED)
    low, high = min(confirmed.values), max(confirmed.values)
    more = f", {abs(found / confirmed.tuned - 1):.0%} {'more' if found >= confirmed.tuned else 'less'}"
    return (
        f"{rates} on {len(confirmed.values)} fresh seeds: {name} {_written(found)} ({_written(low)} to "
        f"{_written(high)}); in the search {_written(confirmed.tuned)}{more if found < float('inf') else ''}"
    )
