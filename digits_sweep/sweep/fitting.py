"""What a plan leaves to the user's own data: the number of classes, batch sizes and thresholds that were not typed."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from digits_sweep.config.keys import checked
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.schema import Config, OwnDataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.labels import description
from digits_sweep.data.loading import DATASETS, for_run, load, name_of
from digits_sweep.sweep.preflight import traceback_in_file
from digits_sweep.training.device import flush_denormals_from_now_on

# Of a data set whose size nobody knows yet, any batch size may fit.
MANY = 10**9
THRESHOLDS = "evaluation.targets.train_loss"


def fitted(planned: Plan, say: Callable[[str], None]) -> Plan:
    """Return `planned` as it fits the user's own data, which are loaded; what was typed stays as it is.

    `say` gets a line for every data set: what was seen in it, and one for everything that was converted. A command has
    data of its own. Raises `InvalidConfig` if the data cannot be had, or if labels fit no loss.
    """
    if planned.settings.command is not None:
        return planned
    said: dict[str, None] = {}
    runs = []
    with traceback_in_file(planned.outputs):
        for run in planned.runs:
            if not isinstance(run.config.data, OwnDataConfig):
                runs.append(run)
                continue
            flush_denormals_from_now_on()
            digits = for_run(load(run.config.data, name_of(run.config.data), say), run.config)
            runs.append(replace(run, config=fitted_config(run.config, digits, planned.typed)))
            for line in (description(digits), *(f"{digits.name}: {note}" for note in digits.notes)):
                if line not in said:
                    said[line] = None
                    say(line)
    return replace(planned, runs=tuple(_of_batch_sizes_that_fit(runs, planned.typed)))


def _of_batch_sizes_that_fit(runs: Sequence[PlannedRun], typed: Collection[str]) -> list[PlannedRun]:
    """Return the runs without those whose batch size, which was not typed, is larger than the training set.

    If all are too large, the batch is the whole set.
    """
    if "data.batch_size" in typed:
        return list(runs)
    fitting = [run for run in runs if run.config.data.batch_size <= train_examples(run.config)]
    if fitting:
        return fitting
    configs = (
        replace(run.config, data=replace(run.config.data, batch_size=train_examples(run.config))) for run in runs
    )
    return [replace(run, config=config) for run, config in zip(runs, configs, strict=True)]


def train_examples(config: Config) -> int:
    """Return how many examples there are to train on; of a data set that says so, without loading it."""
    if isinstance(config.data, OwnDataConfig):
        return len(load(config.data, name_of(config.data), lambda line: None).train_labels)
    known = DATASETS.get(config.data.name)
    return known.train_samples or MANY if known else MANY


def with_fixed_decay(config: Config) -> Config:
    """Return a configuration whose rate falls as in `config`, where its run is ended sooner too."""
    schedule, trainer = config.schedule, config.trainer
    if schedule.decay is None or schedule.decay_examples is not None or config.command is not None:
        return config
    last = min(trainer.num_epochs * train_examples(config), trainer.max_examples or math.inf)
    return replace(config, schedule=replace(schedule, decay_examples=int(last)))


def fitted_config(config: Config, digits: Digits, typed: Collection[str]) -> Config:
    """Return the configuration of a run on the user's own data with every number that follows from them.

    Raises `InvalidConfig` if a value that follows breaks a rule.
    """
    data, model, targets = config.data, config.model, config.evaluation.targets
    outputs = max(digits.num_classes, data.num_classes or 0)
    if data.num_classes is None and not digits.train_labels.is_floating_point():
        data = replace(data, num_classes=outputs)
    if model.num_classes is None:
        model = replace(model, num_classes=outputs)
    # A choice of evaluations comes with the threshold of MNIST.
    if targets.train_loss and THRESHOLDS not in typed:
        threshold = config.trainer.loss_threshold
        targets = replace(targets, train_loss=[] if threshold is None else [threshold])
    return checked(replace(config, data=data, model=model, evaluation=replace(config.evaluation, targets=targets)))


def fitted_run(run: PlannedRun, like: PlannedRun) -> PlannedRun:
    """Return a run that was planned later with what the data have decided for another one of the same command."""
    config, decided = run.config, like.config
    data = replace(config.data, num_classes=decided.data.num_classes)
    return replace(
        run,
        config=replace(config, data=data, model=decided.model, evaluation=decided.evaluation, trainer=decided.trainer),
    )
