"""The branched check of a critical batch size: from one checkpoint, larger and larger batches for as many examples.

Merrill et al. 2025 ("Critical Batch Size Revisited", arXiv 2505.23971) measure it without a fit: from a checkpoint of
a run, train on with k times the batch size and sqrt(k) times the rate, and see up to which k the loss stays.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import torch

from digits_sweep.config.keys import checked
from digits_sweep.config.plan import PlannedRun
from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits
from digits_sweep.results.critical import BRANCHES_COLUMNS, study_table
from digits_sweep.results.record import Record
from digits_sweep.search.settings import CriticalConfig
from digits_sweep.search.study import Study
from digits_sweep.sweep.checkpoint import Checkpoint, restore
from digits_sweep.sweep.run import digits_for
from digits_sweep.sweep.run_files import last_checkpoint
from digits_sweep.training.building import build_engine
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.evaluation import Evaluator


def branches(study: Study, start: PlannedRun, largest: int, rules: CriticalConfig) -> pd.DataFrame:
    """Train every branch of `start` and return the columns of `branches.csv`, a row for each batch size and seed.

    `start` is a run whose checkpoint stands where it reached a goal, `largest` the largest batch size to branch to.
    Raises `UnreadableRecord` if its checkpoint cannot be read, and what building an engine raises.
    """
    checkpoint = last_checkpoint(study.folder / start.folder)
    digits = digits_for(start.config, study.sweep.manifest, Record(0), study.screen.say)
    rows = [
        {
            "batch_size": config.data.batch_size,
            "lr": config.optimizer.lr,
            "seed": config.seed,
            "examples": rules.branch_examples,
            "train_loss": _loss_after(rules.branch_examples, config, digits, checkpoint),
            "tolerance": rules.branch_tolerance,
        }
        for config in _configs(start.config, min(largest, len(digits.train_labels)), rules.seeds)
    ]
    return study_table(rows, BRANCHES_COLUMNS)


def _configs(start: Config, largest: int, seeds: int) -> Iterator[Config]:
    """Yield the configuration of every branch: the batch size doubled again and again, each with several orders."""
    for doublings in range(int(math.log2(largest / start.data.batch_size)) + 1):
        factor = 2**doublings
        for order in range(1, seeds + 1):
            yield checked(
                replace(
                    start,
                    seed=start.seed + order,
                    data=replace(start.data, batch_size=start.data.batch_size * factor),
                    optimizer=replace(start.optimizer, lr=start.optimizer.lr * math.sqrt(factor)),
                )
            )


def _loss_after(examples: int, config: Config, digits: Digits, checkpoint: Checkpoint) -> float:
    """Return the frozen training loss after `examples` more examples from a checkpoint."""
    built = build_engine(config, digits)
    restore(built.engine, checkpoint)
    built.configure_threads()
    num_samples = len(digits.train_labels)
    epochs = [epoch_order(config.seed, epoch, num_samples) for epoch in range(1, math.ceil(examples / num_samples) + 1)]
    built.engine.train(torch.cat(epochs)[:examples])
    evaluator = Evaluator(config.evaluation, digits, config.data.scale, built.device)
    return evaluator.measure(built.engine).train.loss
