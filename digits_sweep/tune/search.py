"""The trials of a study, each a run of this program."""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import optuna
from optuna.study import MaxTrialsCallback, Study
from optuna.trial import Trial, TrialState

from digits_sweep.config.schema import Config
from digits_sweep.errors import CannotSearch
from digits_sweep.results.disk.lock import this_process
from digits_sweep.results.history import EpochRow
from digits_sweep.results.manifest import DatasetChoice, Manifest
from digits_sweep.results.record import Record, Status
from digits_sweep.sweep.one_run.run import run
from digits_sweep.tune.settings import OBJECTIVES, SEARCHED, TuneConfig
from digits_sweep.tune.study import start_again

DONE = (TrialState.COMPLETE, TrialState.PRUNED)


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
        trial.set_user_attr("process", asdict(this_process()))
        trial.set_user_attr("folder", name)
        manifest = Manifest([], [name] * self.settings.trials, [], [self.dataset])
        number, hopeless = int(name.removeprefix("trial_")), partial(self._hopeless, trial)
        try:
            record = run(config, self.folder / name, number, manifest, hopeless)
        except KeyboardInterrupt:
            start_again(self.study, self.study.trials[trial.number])
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
