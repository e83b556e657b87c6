"""From what is typed to runs: one plan of all batch sizes, and the run of every trial."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from digits_sweep.config.hydra.compose import checked
from digits_sweep.config.keys import written
from digits_sweep.config.plan import Plan, PlannedRun, plan
from digits_sweep.config.schema import Config
from digits_sweep.critical_batch_size.search.trials import Trial
from digits_sweep.critical_batch_size.settings import CriticalConfig
from digits_sweep.errors import InvalidConfig

SIZE = "data.batch_size"


@dataclass(frozen=True)
class Goal:
    """A target, such as `train_error`, and the threshold that it must fall below."""

    target: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.target.replace('_', ' ')} < {written(self.threshold)}"


def goals_of(config: Config) -> list[Goal]:
    """Return every goal of a run. Raises `InvalidConfig` if it has none, or is never evaluated."""
    targets = config.evaluation.targets
    goals = [Goal(each.name, value) for each in fields(targets) for value in getattr(targets, each.name)]
    if not goals:
        raise InvalidConfig("evaluation.targets: name a goal, such as evaluation.targets.train_error=[0.1]")
    return goals


def plan_batch_sizes(arguments: Sequence[str]) -> Plan:
    """Return a plan with a run for every batch size, the smallest first.

    Raises `InvalidConfig` if a key is wrong, or if another key than the batch size has several values.
    """
    planned = plan(arguments)
    values = [{text.partition("=")[0]: text for text in run.overrides} for run in planned.runs]
    swept = {key for each in values for key in each if len({other.get(key) for other in values}) > 1} - {SIZE}
    if swept:
        texts = " ".join(each for each in arguments if each.lstrip("+").partition("=")[0] in swept) or ", ".join(swept)
        raise InvalidConfig(f"{texts}: give one value; the batch size alone has several")
    return replace(planned, runs=tuple(sorted(planned.runs, key=lambda run: run.config.data.batch_size)))


def plan_batch_size(arguments: Sequence[str], batch_size: int) -> PlannedRun:
    """Return the run of a batch size that was not typed. Raises `InvalidConfig` as `plan_batch_sizes` does."""
    others = [each for each in arguments if not each.startswith(f"{SIZE}=")]
    (run,) = plan([*others, f"{SIZE}={batch_size}"]).runs
    return run


def learning_rate(settings: CriticalConfig, batch_size: int, exponent: int) -> float:
    """Return the rate of the grid at `exponent`: centred on the square-root rule, four digits long."""
    middle = settings.lr * math.sqrt(batch_size / settings.reference_batch_size)
    return float(f"{middle * settings.factor**exponent:.4g}")


def planned_run(base: PlannedRun, settings: CriticalConfig, trial: Trial) -> PlannedRun:
    """Return the run of a trial; `base` is that of its batch size.

    Raises `InvalidConfig` if its seed or its rate is too large.
    """
    config, size = base.config, base.config.data.batch_size
    lr, seed = learning_rate(settings, size, trial.exponent), config.seed + trial.place
    limits = [config.trainer.max_examples] if config.trainer.max_examples is not None else []
    limits += [math.ceil(trial.most_iterations * size)] if math.isfinite(trial.most_iterations) else []
    config = replace(
        config,
        seed=seed,
        optimizer=replace(config.optimizer, lr=lr),
        trainer=replace(config.trainer, max_examples=min(limits, default=None)),
        evaluation=replace(config.evaluation, noise_scale=config.evaluation.noise_scale or trial.measures_noise),
    )
    return PlannedRun(f"batch_size={size}_lr={written(lr)}_seed={seed}", checked(config), base.overrides)
