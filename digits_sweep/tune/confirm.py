"""The best trial's rates on fresh seeds: a minimum that was searched for is optimistic."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from filelock import FileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from digits_sweep.config.schema import Config
from digits_sweep.results.manifest import DatasetChoice
from digits_sweep.tune.search import objective, seeded_run, until_decided
from digits_sweep.tune.settings import SEARCHED, TuneConfig


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
