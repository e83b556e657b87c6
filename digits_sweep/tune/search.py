"""One Optuna study of this program's runs."""

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import MaxTrialsCallback, Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from digits_sweep.config.keys import written
from digits_sweep.config.schema import Config
from digits_sweep.errors import CannotSearch
from digits_sweep.results.history import EpochRow
from digits_sweep.results.manifest import DatasetChoice, Manifest
from digits_sweep.results.record import Record, Status
from digits_sweep.sweep.one_run.run import run
from digits_sweep.tune.settings import OBJECTIVES, SEARCHED, TuneConfig, lesson_rates

# A process that has sent no heartbeat for so long is taken for dead, and its trial is started again.
HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 15, 60
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@contextmanager
def opened_study(settings: TuneConfig, folder: Path, base: dict[str, Any]) -> Iterator[Study]:
    """Create the study in its store, or open it to continue, and close the store after the block.

    `base` is what must be the same for two trials to be comparable. Raises `CannotSearch` if the study was started with
    another one, or if its store cannot be used.
    """
    # This program reports itself that a trial was stopped or failed.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    first = lesson_rates() if settings.start_from_lesson else ()
    storage = None
    try:
        # Processes that start together take turns: tables are created, and the lesson's rates added, once.
        with FileLock(folder / ".lock"):
            storage = _storage(settings, folder)
            study = optuna.create_study(
                storage=storage, study_name=settings.study, load_if_exists=True, direction="minimize"
            )
            _check_base(study, base)
            for rates in first:
                if all(_inside(getattr(settings, name), rates[name]) for name in SEARCHED):
                    study.enqueue_trial(rates, skip_if_exists=True)
        # Every process samples on its own: with one seed, two of them would try the same values twice.
        study.sampler = optuna.samplers.TPESampler(seed=settings.seed + len(study.trials))
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        yield study
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CannotSearch(f"tune.storage={written(settings.storage)}: {reason}") from error
    finally:
        if storage:
            storage.remove_session()
            storage.engine.dispose()


def _storage(settings: TuneConfig, folder: Path) -> RDBStorage:
    with warnings.catch_warnings():
        # The heartbeat, by which a trial of a killed process is found, is one of Optuna's experimental features.
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return RDBStorage(
                settings.storage or f"sqlite:///{folder}.db",
                engine_kwargs=None if settings.storage else {"connect_args": {"timeout": 60}},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
                heartbeat_stale_trial_callback=_start_again,
            )
        except ImportError as error:
            # The driver of a database server is not installed.
            reason = str(error).strip().splitlines()[0]
            raise CannotSearch(f"tune.storage={written(settings.storage)}: {reason}") from error


def _check_base(study: Study, base: dict[str, Any]) -> None:
    """Refuse another configuration than the study's. A key that its program did not have yet says nothing."""
    before = study.user_attrs.get("base", base)
    differing = [
        f"{key} was {written(before[key])}, is now {written(base[key])}"
        for key in base
        if key in before and before[key] != base[key]
    ]
    if differing:
        raise CannotSearch(f"tune.study={study.study_name}: {'; '.join(differing)}; give the study another name")
    study.set_user_attr("base", base)


def _start_again(study: Study, trial: FrozenTrial) -> None:
    """Add a trial that resumes, in the same folder, one whose process died or was stopped."""
    if "folder" in trial.user_attrs:
        study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs["folder"]})


def _inside(bounds: Sequence[float], value: float) -> bool:
    return bounds[0] <= value <= bounds[1]


def search(study: Study, settings: TuneConfig, config: Config, dataset: DatasetChoice, folder: Path) -> None:
    """Run trials until the study has `settings.trials`, whichever process ran them.

    Raises `CannotSearch` if a trial fails, and what `sweep.run.run` raises.
    """
    if len(study.get_trials(states=DONE)) < settings.trials:
        enough = MaxTrialsCallback(settings.trials, states=DONE)
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
        config = copy.deepcopy(self.config)
        for name in SEARCHED:
            low, high = getattr(self.settings, name)
            setattr(config.optimizer, name, trial.suggest_float(name, low, high, log=True))
        # What comes after the threshold counts for the last loss only.
        config.trainer.stop_at_threshold |= self.settings.objective != "final_loss"
        name = trial.user_attrs.get("folder", f"trial_{trial.number:04d}")
        trial.set_user_attr("folder", name)
        manifest = Manifest([], [name] * self.settings.trials, [], [self.dataset])
        number, hopeless = int(name.removeprefix("trial_")), partial(self._hopeless, trial)
        try:
            record = run(config, self.folder / name, number, manifest, hopeless)
        except KeyboardInterrupt:
            _start_again(self.study, self.study.trials[trial.number])
            raise
        if record.status is Status.FAILED:
            raise CannotSearch(f"{name} failed: {(record.error or '').strip().splitlines()[-1]}")
        if record.status is Status.INTERRUPTED:
            raise optuna.TrialPruned(record.error)
        return objective(self.settings.objective, record)

    def _hopeless(self, trial: Trial, history: Sequence[EpochRow]) -> str | None:
        """Return why this trial cannot become the best one, or None."""
        last = history[-1]
        if not self.settings.prune or not math.isfinite(last.loss_mean):
            return None
        trial.report(last.loss_mean, last.epoch)
        if self.settings.objective != "final_loss" and last.loss_mean < self.config.trainer.loss_threshold:
            return None
        spent = {"seconds_to_threshold": math.fsum(row.seconds for row in history), "epochs_to_threshold": last.epoch}
        if (used := spent.get(self.settings.objective)) is not None and used >= self._best():
            return f"pruned after epoch {last.epoch}: the best trial was below the threshold by then"
        if trial.should_prune():
            return f"pruned after epoch {last.epoch}: its loss is above the median of the trials at that epoch"
        return None

    def _best(self) -> float:
        completed = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return min((trial.value for trial in completed if trial.value is not None), default=math.inf)


def objective(name: str, record: Record) -> float:
    """Return the objective of one run: infinity if it diverged or did not reach the threshold."""
    value = record.summary.get(OBJECTIVES[name])
    return math.inf if value is None or not math.isfinite(float(value)) else float(value)
