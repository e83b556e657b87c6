"""The trials of a study, each a run of this program."""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import optuna
from optuna.study import MaxTrialsCallback, Study
from optuna.trial import Trial, TrialState

from digits_sweep.config.keys import written
from digits_sweep.config.schema import Config
from digits_sweep.errors import CannotSearch
from digits_sweep.process.command import held, let_through
from digits_sweep.results.disk.lock import this_process
from digits_sweep.results.manifest import DatasetChoice, Manifest
from digits_sweep.results.run.history import EpochRow
from digits_sweep.results.run.record import Record, Status
from digits_sweep.sweep.one_run.job import Enough
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
            trial.set_user_attr("values", [written(value) for value in values])
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

    def _hopeless(self, trial: Trial, place: int, record: Record, history: Sequence[EpochRow]) -> str | None:
        """Return why this run cannot help its trial to the best median, or None."""
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
        reached = record.summary.get(OBJECTIVES[objective]) is not None
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
    config: Config, place: int, folder: Path, name: str, number: int, dataset: DatasetChoice, enough: Enough | None
) -> Record:
    """Train, or resume, the run of `config` with the seed `place` places after its own, in `folder`.

    Raises `CannotSearch` if it fails.
    """
    config = replace(config, seed=config.seed + place)
    own = f"{name}_seed={config.seed}"
    # The screen says which run this is of how many; nobody knows how many a search will have.
    record = run(config, folder / own, number, Manifest([], [own] * (number + 1), [], [dataset]), enough)
    if record.status is Status.FAILED:
        raise CannotSearch(f"{own} failed: {record.error_line}")
    return record


def number_of(name: str) -> int:
    """Return the number in a trial's folder name, which a trial keeps that is started again."""
    return int(name.removeprefix("trial_"))


def objective(name: str, record: Record) -> float:
    """Return the objective of one run: infinity if it diverged or did not reach the threshold."""
    value = record.summary.get(OBJECTIVES[name])
    return math.inf if value is None or not math.isfinite(float(value)) else float(value)
