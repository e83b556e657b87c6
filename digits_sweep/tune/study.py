"""An Optuna study in its store: opened, compared with what is asked for, and given the trials that must be tried."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from digits_sweep.config.keys import written
from digits_sweep.config.resolvers.addresses import sqlite_address
from digits_sweep.errors import CannotSearch
from digits_sweep.results.disk.lock import Owner, this_process
from digits_sweep.tune.settings import SEARCHED, TuneConfig, lesson_rates

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
        raise CannotSearch(f"tune.storage={written(settings.storage)}: {_first_line(error)}") from error
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
            raise CannotSearch(f"tune.storage={written(settings.storage)}: {_missing_driver(error)}") from error
        # An address can make SQLAlchemy, a driver or Optuna, which knows older tables, raise anything.
        except Exception as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise CannotSearch(f"tune.storage={written(settings.storage)}: {reason}") from error


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
    for key in base:
        if key in before and before[key] != base[key]:
            yield f"{key} was {written(before[key])}, is now {written(base[key])}"


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
