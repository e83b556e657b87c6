"""One Optuna study over this program's runs."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage
from optuna.study import MaxTrialsCallback, Study
from optuna.trial import FrozenTrial, Trial, TrialState

from digits_sweep.config.schema import Config
from digits_sweep.results.history import EpochRow
from digits_sweep.results.record import Record
from digits_sweep.results.sweep import DatasetChoice, Manifest
from digits_sweep.sweep.run import run
from digits_sweep.tune.settings import TuneConfig

# What the lesson ends up with for batch size 20 and for batch size 5.
LESSON = ({"lr": 1e-4, "weight_decay": 5e-4}, {"lr": 1e-6, "weight_decay": 5e-6})
# A process that has not been heard of for so long is taken for dead, and its trial is tried again.
HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 15, 60
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class CannotSearch(Exception):
    """The search cannot begin or go on. The text says why; what the study has is kept."""


def open_study(settings: TuneConfig, folder: Path, base: dict[str, Any]) -> Study:
    """The study in its store, new or gone on with. Raises `CannotSearch` where it was begun with another `base`."""
    # Processes that start together take turns: tables are made, and the lesson's rates put in, once.
    with FileLock(folder / ".lock"):
        study = _stored_study(settings, folder)
        before = study.user_attrs.get("base", base)
        if found := [
            f"{key} was {before.get(key)}, is now {base[key]}" for key in base if before.get(key) != base[key]
        ]:
            raise CannotSearch(f"tune.study={settings.study}: {'; '.join(found)}; give the study another name")
        study.set_user_attr("base", base)
        for rates in LESSON if settings.start_from_lesson else ():
            if all(_inside(getattr(settings, name), rate) for name, rate in rates.items()):
                study.enqueue_trial(rates, skip_if_exists=True)
    # Every process samples on its own: with one seed, two of them would try the same values twice.
    study.sampler = optuna.samplers.TPESampler(seed=settings.seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    return study


def _stored_study(settings: TuneConfig, folder: Path) -> Study:
    storage = RDBStorage(
        settings.storage or f"sqlite:///{folder}.db",
        engine_kwargs=None if settings.storage else {"connect_args": {"timeout": 60}},
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=DEAD_AFTER_SECONDS,
        heartbeat_stale_trial_callback=_try_again,
    )
    return optuna.create_study(storage=storage, study_name=settings.study, load_if_exists=True, direction="minimize")


def _try_again(study: Study, trial: FrozenTrial) -> None:
    """A trial whose process died or was stopped is tried again in its folder, after its last epoch."""
    if "folder" in trial.user_attrs:
        study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs["folder"]})


def _inside(bounds: Sequence[float], value: float) -> bool:
    return bounds[0] <= value <= bounds[1]


def search(study: Study, settings: TuneConfig, config: Config, dataset: DatasetChoice, folder: Path) -> None:
    """Try until the study has `settings.trials` trials, whichever process made them."""
    if len(study.get_trials(states=DONE)) < settings.trials:
        enough = MaxTrialsCallback(settings.trials, states=DONE)
        study.optimize(_Trying(study, settings, config, dataset, folder), callbacks=[enough])


@dataclass(frozen=True)
class _Trying:
    """Optuna's objective: one trial is one run in a folder of its own."""

    study: Study
    settings: TuneConfig
    config: Config
    dataset: DatasetChoice
    folder: Path

    def __call__(self, trial: Trial) -> float:
        config = copy.deepcopy(self.config)
        config.optimizer.lr = trial.suggest_float("lr", *self.settings.lr, log=True)
        config.optimizer.weight_decay = trial.suggest_float("weight_decay", *self.settings.weight_decay, log=True)
        # Beyond the threshold nothing counts any more, except for the last loss.
        config.trainer.stop_at_threshold |= self.settings.objective != "final_loss"
        name = trial.user_attrs.get("folder", f"trial_{trial.number:04d}")
        trial.set_user_attr("folder", name)
        manifest = Manifest([], [name] * self.settings.trials, [], [self.dataset])
        try:
            record = run(
                config, self.folder / name, int(name.removeprefix("trial_")), manifest, partial(self._hopeless, trial)
            )
        except KeyboardInterrupt:
            _try_again(self.study, self.study.trials[trial.number])
            raise
        if record.status == "failed":
            raise CannotSearch(f"{name} failed: {(record.error or '').strip().splitlines()[-1]}")
        if record.status == "interrupted":
            raise optuna.TrialPruned(record.error)
        return objective(self.settings.objective, record)

    def _hopeless(self, trial: Trial, history: Sequence[EpochRow]) -> str | None:
        """Why this trial cannot become the best one, or None."""
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
    """What is searched for, of one run; a run that did not get there, or diverged, is infinitely far from it."""
    column = "first_epoch_below_threshold" if name == "epochs_to_threshold" else name
    value = record.summary.get(column)
    return math.inf if value is None or not math.isfinite(float(value)) else float(value)
