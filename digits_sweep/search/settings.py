"""The command line of a search: its own keys, `critical.` or `tune.`, those of its runs, and which runs that means."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from digits_sweep.config.command_line import read_command_line, settings_of
from digits_sweep.config.plan import Plan, plan
from digits_sweep.config.schema import (
    INFINITY,
    MOST_SEEDS,
    ODD_SEEDS,
    POSITIVE,
    Config,
    Rule,
    key,
    number_above,
    one_of,
    or_null,
    whole_number,
)
from digits_sweep.config.text import expand_home, key_of, safe_name, to_text
from digits_sweep.errors import InvalidConfig, UnreadableRecord
from digits_sweep.results.critical import network_of, read_cost, seconds_of_step

SIZE, TARGETS, STOP = "data.batch_size", "evaluation.targets.", "evaluation.stop"
# The data sets whose goals are those in `critical.runs`; with others they follow from pilot runs, unless typed.
WITH_GOALS = ("mnist", "mnist_sample")
# The keys of an optimizer that `tune` tries values of.
SEARCHED = ("lr", "weight_decay")
# What `tune` can minimize, and the column of `summary.csv` that holds it.
OBJECTIVES = {
    "examples_to_threshold": "examples_to_threshold",
    "iterations_to_threshold": "iterations_to_threshold",
    "seconds_to_threshold": "seconds_to_threshold",
    "epochs_to_threshold": "first_epoch_below_threshold",
    "final_loss": "final_loss",
}
# What these keys are in a quick study: the first three are how it is quick, the last may be typed.
QUICK = {"seeds": 1, "confirm": 0, "give_up": 2.0, "pilot_examples": 15_000}
# Far above what any search needs.
MOST_TRIALS, MOST_STEPS = 100_000, 40
# So many differences between two networks are named.
MOST_DIFFERENCES = 3
BOUNDS = Rule(
    lambda bounds: len(bounds) == 2 and 0 < bounds[0] < bounds[1] < INFINITY,
    "must be two numbers above 0, the smaller one first",
)


@dataclass
class CriticalConfig:
    """`conf/critical_batch_size.yaml`, typed."""

    quick: bool = key()
    lr: float = key(POSITIVE)
    reference_batch_size: int = key(whole_number(1))
    factor: float = key(Rule(lambda value: 1 < value <= 100, "must be a number above 1, at most 100"))
    most_steps: int = key(whole_number(1, MOST_STEPS))
    seeds: int = key(ODD_SEEDS)
    give_up: float = key(number_above(1))
    confirm: int = key(whole_number(1, MOST_SEEDS))
    pilot_examples: int = key(whole_number(0))
    cost: Any = key()
    price: float | None = key(or_null(POSITIVE))
    branch: bool = key()
    branch_examples: int = key(whole_number(1))
    branch_tolerance: float = key(POSITIVE)
    runs: list[str] = key()

    def learning_rate(self, batch_size: int, exponent: int) -> float:
        """Return the rate of the grid at `exponent`: centred on the square-root rule, four digits long."""
        middle = self.lr * math.sqrt(batch_size / self.reference_batch_size)
        return float(f"{middle * self.factor**exponent:.4g}")


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


Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Request(Generic[Settings]):
    """What a command line asks for: its settings, what it resumes, and a plan with a run for every batch size.

    `command` is the command line without `resume`, which is the folder, `latest` or None. `cost` is that of another
    machine, if it was typed.
    """

    settings: Settings
    resume: str | None
    command: list[str]
    planned: Plan
    cost: "Cost | None" = None


def read_critical(
    arguments: Sequence[str], batch_sizes: str | None = None, goals_follow: bool = False
) -> Request[CriticalConfig]:
    """Read and plan the command line of a study, the smallest batch size first.

    `batch_sizes`, separated by commas, take the place of those that a study has by default, and goals that follow from
    pilot runs if `goals_follow`, as they do in a quick study. Raises `InvalidConfig` with key, value and what would be
    right.
    """
    for argument in arguments:
        # A shell that expands braces makes two words of one cost.
        if argument == "--cost" or re.match(r"critical\.cost=\w+:", argument):
            raise InvalidConfig(f"{argument}: {RIGHT_COST}")
    settings, resume, command, overrides = _read(
        arguments, CriticalConfig, "critical_batch_size.yaml", "critical.", REFUSED_BY_A_STUDY
    )
    if settings.quick:
        _make_quick(settings, command)
    if settings.branch and "command" in map(key_of, overrides):
        raise InvalidConfig("critical.branch=true: branches need checkpoints, which a command does not leave")
    typed = frozenset(map(key_of, command))
    if has_targets := any(key.startswith(TARGETS) for key in typed):
        settings.pilot_examples *= "critical.pilot_examples" in typed and not settings.quick
    if goals_follow := not has_targets and (goals_follow or settings.quick or _goals_follow(overrides)):
        # Until there are goals, there is none to stop at, and no threshold of the loss is looked for.
        overrides = [text for text in overrides if text.lower() != f"{STOP}=true"]
        typed |= {"trainer.loss_threshold"}
    defaults = {key_of(text): text for text in settings.runs} | ({SIZE: f"{SIZE}={batch_sizes}"} if batch_sizes else {})
    planned = plan(["-m", *_defaults(defaults, overrides, goals_follow), *overrides])
    if texts := _swept(planned, overrides, SIZE):
        raise InvalidConfig(f"{texts}: give one value; the batch size alone has several")
    if not goals_of(planned.settings) and not (goals_follow and settings.pilot_examples):
        raise InvalidConfig("evaluation.targets: name a goal, such as evaluation.targets.train_error=[0.1]")
    runs = tuple(sorted(planned.runs, key=lambda run: run.config.data.batch_size))
    planned = replace(planned, runs=runs, typed=typed)
    return Request(settings, resume, command, planned, cost_of(settings, planned.settings))


def _make_quick(settings: CriticalConfig, command: Sequence[str]) -> None:
    """Set what makes a study quick. Raises `InvalidConfig` if something else is typed for it."""
    typed = {key_of(override): override for override in command}
    if settings.branch:
        raise InvalidConfig("critical.branch=true: branches start from fresh seeds, which a quick study has none of")
    for name, value in QUICK.items():
        override = typed.get(f"critical.{name}")
        if override and name != "pilot_examples":
            right = "a quick study has one seed a rate, none to confirm it, and gives a run up at twice the best"
            raise InvalidConfig(f"{override}: {right}; leave it out, or type critical.quick=false")
        if not override:
            setattr(settings, name, value)


def _goals_follow(overrides: Sequence[str]) -> bool:
    """Return whether the goals in `critical.runs` are of other data, so that they follow from pilot runs."""
    typed = {key_of(text): text.partition("=")[2] for text in overrides}
    data, loss = (typed.get(group) or typed.get(f"{group}.name") for group in ("data", "loss"))
    is_other = (data or "mnist") not in WITH_GOALS or (loss or "cross_entropy") != "cross_entropy"
    return "command" in typed or is_other


def read_tune(arguments: Sequence[str]) -> Request[TuneConfig]:
    """Read and plan the command line of a search with Optuna. Raises `InvalidConfig` as `read_critical` does."""
    if flag := next((argument for argument in arguments if argument in ("-m", "--multirun")), None):
        raise InvalidConfig(f"{flag}: not for a search; its keys are tune.... of conf/tune.yaml and those of a run")
    settings, _, command, overrides = _read(arguments, TuneConfig, "tune.yaml", "tune.", REFUSED_BY_TUNE)
    # How runs are started and watched makes no other study.
    named = sorted(text for text in overrides if not text.startswith(("-", "hydra", "tracker", "quiet=")))
    settings.study = safe_name(settings.study or "_".join([settings.objective, *named]))
    planned = plan(["-m", *overrides])
    if texts := _swept(planned, overrides):
        raise InvalidConfig(f"{texts}: is a sweep of {len(planned.runs)} runs; a search needs one value of every key")
    return Request(settings, None, command, planned)


def _swept(planned: Plan, overrides: Sequence[str], *allowed: str) -> str:
    """Return the overrides whose keys have several values and are not `allowed` them; nothing if there are none."""
    values = [{key_of(text): text for text in run.overrides} for run in planned.runs]
    keys = dict.fromkeys(name for run in values for name in run)
    swept = {name for name in keys if len({run.get(name) for run in values}) > 1} - {*allowed}
    return " ".join([text for text in overrides if key_of(text) in swept] or overrides) if swept else ""


def plan_batch_sizes(planned: Plan, *batch_sizes: int) -> Plan:
    """Return the plan of other batch sizes than those of a command line. Raises `InvalidConfig` as `plan` does."""
    arguments = (argument for argument in planned.command if key_of(argument) != SIZE)
    again = plan([*arguments, f"{SIZE}={','.join(map(str, batch_sizes))}"])
    return replace(again, command=planned.command, typed=planned.typed)


@dataclass(frozen=True)
class Goal:
    """A target, such as `train_error`, and the threshold that it must fall below."""

    target: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.target.replace('_', ' ')} < {to_text(self.threshold)}"


def goals_of(config: Config) -> list[Goal]:
    """Return every goal of a run."""
    targets = config.evaluation.targets
    return [Goal(target.name, value) for target in fields(targets) for value in getattr(targets, target.name)]


@cache
def lesson_rates() -> tuple[dict[str, float], ...]:
    """Return what the runs of `experiment=lesson` have for the searched keys, every combination once."""
    optimizers = [run.config.optimizer for run in plan(["experiment=lesson"]).runs]
    rates = [{name: getattr(optimizer, name) for name in SEARCHED} for optimizer in optimizers]
    return tuple(pair for index, pair in enumerate(rates) if pair not in rates[:index])


# Keys of a sweep that mean nothing in a search, with what to do instead.
REFUSED = {
    "dry_run": "which runs there are depends on what the first of them result in; leave it out",
    "fail_fast": "a search says itself what a run that fails means; leave it out",
    **dict.fromkeys(("seeds", "max_seeds"), "a search says itself which seeds it needs; leave it out"),
}
REFUSED_BY_A_STUDY = REFUSED | {
    "optimizer.lr": "this is what is searched; critical.lr=LR is the middle of the grid",
    "schedule.batch": "a study compares batches of one size; leave it out",
}
REFUSED_BY_TUNE = REFUSED | {
    "resume": "not for a search; the same command resumes it",
    **{f"optimizer.{name}": f"this is what is searched; tune.{name}=[low,high] sets between what" for name in SEARCHED},
}


def _read(
    arguments: Sequence[str], schema: type[Settings], file: str, prefix: str, refused: Mapping[str, str]
) -> tuple[Settings, str | None, list[str], list[str]]:
    """Return the settings, what is resumed, the command line without that, and the overrides of the runs."""
    line = read_command_line(arguments)
    command = [f"--config-dir={folder}" for folder in line.config_dirs]
    resume = None
    for override in line.overrides:
        if right := refused.get(key_of(override)):
            raise InvalidConfig(f"{override}: {right}")
        if key_of(override) == "resume":
            resume = override.partition("=")[2].strip("'\"")
        else:
            command.append(override)
    settings = settings_of(schema, file, prefix, line.overrides)
    return settings, resume, command, [text for text in command if not text.startswith(prefix)]


def _defaults(defaults: dict[str, str], overrides: Sequence[str], goals_follow: bool) -> list[str]:
    """Return the `defaults`, by their keys, whose key is not in `overrides`. One target there replaces them all.

    If goals follow from pilot runs, there are no targets yet, nothing to stop at, and no threshold.
    """
    keys = {key_of(override) for override in overrides}
    if goals_follow or any(name.startswith(TARGETS) for name in keys):
        defaults = defaults | {name: f"{name}=[]" for name in defaults if name.startswith(TARGETS)}
    if goals_follow:
        defaults = defaults | {"trainer.loss_threshold": "trainer.loss_threshold=null"}
        keys.add(STOP)
    if "command" in keys:
        # It has a network of its own, and evaluates on what it likes.
        keys |= {"model", "evaluation.train_samples", "evaluation.test_samples"}
    return [text for name, text in defaults.items() if name not in keys]


@dataclass(frozen=True)
class Cost:
    """What a machine takes, in seconds: for an iteration and for an example, or for a step at some batch sizes.

    `steps` has the seconds of a step by batch size, and is None if a step takes `iteration` and `example` times its
    batch size; `machine` is the name of the machine that they were measured on. `draws` (draws, 2) are what other runs
    might have measured of the two; None if they are exact.
    """

    iteration: float = 0.0
    example: float = 0.0
    draws: Any = None
    steps: Mapping[int, float] | None = None
    machine: str | None = None

    def seconds(self, batch_size: Any) -> Any:
        """Return the seconds of a step at a batch size; of an array, an element each."""
        if self.steps is not None:
            return seconds_of_step(self.steps, batch_size)
        return self.iteration + self.example * batch_size


RIGHT_COST = (
    "type 'critical.cost={iteration:20us,example:0.5us}', in quotes because of the shell, or the cost.json that "
    "python -m digits_sweep.cost has written there"
)
UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def cost_of(settings: CriticalConfig, config: Config) -> Cost | None:
    """Return the costs in `critical.cost`, typed (in seconds or with `ms` or `us`) or in a file; None if it is null.

    Raises `InvalidConfig` if something else is typed, or if the file is none, or of another network than `config` has.
    """
    typed = settings.cost
    if typed is None:
        return None
    override = f"critical.cost={to_text(typed)}"
    if isinstance(typed, str):
        return _cost_in_file(override, Path(expand_home(typed)), config)
    # YAML takes a colon without a space behind it for a part of the name.
    pairs = typed.items() if isinstance(typed, dict) else ()
    parts = dict(f"{name}:{value}".split(":")[:2] for name, value in pairs)
    if parts.keys() != {"iteration", "example"}:
        raise InvalidConfig(f"{override}: {RIGHT_COST}")
    cost = Cost(_seconds(parts["iteration"]), _seconds(parts["example"]))
    if not 0 < cost.iteration + cost.example < float("inf"):
        raise InvalidConfig(f"{override}: must be numbers from 0, not both 0; {RIGHT_COST}")
    return cost


def _cost_in_file(override: str, path: Path, config: Config) -> Cost:
    try:
        measured = read_cost(path)
    except UnreadableRecord as error:
        raise InvalidConfig(f"{override}: {error}; {RIGHT_COST}") from error
    there, here = measured.network, network_of(config)
    lines = [
        f"{name} was {there.get(name)}, is {here.get(name)} here"
        for name in dict.fromkeys([*here, *there])
        if there.get(name) != here.get(name)
    ]
    if lines:
        raise InvalidConfig(f"{override}: is of other steps: {'; '.join(lines[:MOST_DIFFERENCES])}")
    return Cost(steps={step.batch_size: step.seconds for step in measured.steps}, machine=measured.machine)


def _seconds(text: str) -> float:
    """Return a time such as `20us` in seconds; NaN if it is none."""
    match = re.fullmatch(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)(s|ms|us)?", text.strip(), re.IGNORECASE)
    return float(match[1]) * UNITS[(match[2] or "").lower()] if match else float("nan")
