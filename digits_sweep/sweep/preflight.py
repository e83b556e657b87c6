"""What can be known of a plan before anything is written: the parts it names, engines, sizes; a dry run."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from digits_sweep.config.own_code import what_was_taken_back
from digits_sweep.config.own_command import search_path, words_of
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.scaling import sizes_in
from digits_sweep.config.schema import Config, DataConfig, OwnDataConfig
from digits_sweep.config.text import to_text
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import DATASETS, for_run, load, name_of
from digits_sweep.errors import DeviceUnavailable, EngineRefused, InvalidConfig, OwnCodeFailed
from digits_sweep.report.words import setting
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.sweep import RecordedSweep, check_size
from digits_sweep.sweep.fitting import recorded_engine, traceback_in_file
from digits_sweep.sweep.resume import is_finished
from digits_sweep.trackers.registry import check as check_trackers
from digits_sweep.training.building import options_here
from digits_sweep.training.device import flush_denormals_from_now_on, is_out_of_memory, resolve_device
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.first_step import loss_at_start, try_network
from digits_sweep.training.losses import LOSSES
from digits_sweep.training.model import MODELS
from digits_sweep.training.optimizers import OPTIMIZERS


def check(planned: Plan, say: Callable[[str], None] = lambda line: None) -> None:
    """Refuse a plan that names something unknown, or that cannot be trained on this machine.

    The user's own data are loaded for that, and networks of the user's tried; `say` gets a line for what takes long,
    and for what the user's code has changed of this process.

    Raises `InvalidConfig`, `DeviceUnavailable` or `EngineRefused`, with a line for every mistake; `OwnCodeFailed` names
    the file with the traceback.
    """
    with traceback_in_file(planned.outputs):
        _check(planned, say)
    for line in what_was_taken_back():
        say(f"WARNING: {line}")


def _check(planned: Plan, say: Callable[[str], None]) -> None:
    check_trackers(planned.settings.tracker)
    check_size(planned.command, [run.folder for run in planned.runs])
    if planned.settings.command is not None:
        _check_program(planned)
        return
    configs = [run.config for run in planned.runs]
    mistakes = dict.fromkeys(line for each in configs for line in [*_unknown_names(each), *_sizes(each, planned.typed)])
    mistakes = mistakes or dict.fromkeys(line for each in configs for line in _of_own_data(each, planned.typed, say))
    if mistakes:
        raise InvalidConfig("\n".join(mistakes))
    engines(planned)
    _try_networks(configs)
    for config in configs:
        if isinstance(config.data, OwnDataConfig):
            refuse_thresholds(planned, config.data, load(config.data, name_of(config.data), say))


def _try_networks(configs: Collection[Config]) -> None:
    """Try every network, loss and optimizer of the user's, once for runs that are alike but for sizes and rates."""
    alike: dict[str, list[Config]] = {}
    for config in configs:
        data, optimizer = config.data, config.optimizer
        if "own" in (config.model.name, config.loss.name, optimizer.name):
            stepped_by = (optimizer.name, getattr(optimizer, "target", None), getattr(optimizer, "arguments", None))
            key = repr((name_of(data), data.last, data.micro_batch, config.model, config.loss, *stepped_by))
            alike.setdefault(key, []).append(config)
    for those in alike.values():
        with beyond_this_machine():
            try_network(those)


@contextmanager
def beyond_this_machine() -> Iterator[None]:
    """End the block where it needs more memory than there is: a run may have more where it trains, or says so."""
    try:
        yield
    except (RuntimeError, MemoryError, OwnCodeFailed) as error:
        if not is_out_of_memory(error.__cause__ or error):
            raise


def refuse_thresholds(planned: Plan, data: DataConfig, digits: Digits) -> None:
    """Refuse thresholds of runs on `data`, loaded as `digits`, that the untrained network has passed already.

    With data of the user's no threshold fits unasked: one is asked for, unless there are other targets. Raises
    `InvalidConfig` with a line for every mistake.
    """
    losses: dict[str, float] = {}
    mistakes: dict[str, None] = {}
    for config in (run.config for run in planned.runs if name_of(run.config.data) == name_of(data)):
        own = isinstance(data, OwnDataConfig)
        if not own and config.model.name != "own" and not planned.typed & {THRESHOLD, TARGET, "trainer"}:
            continue
        key = repr((config.data.scale, config.model, config.loss))
        with beyond_this_machine():
            if key not in losses:
                losses[key] = loss_at_start(config, for_run(digits, config))
            mistakes |= dict.fromkeys(_passed_at_start(config, losses[key], planned.typed if own else None))
    if mistakes:
        raise InvalidConfig("\n".join(mistakes))


THRESHOLD, TARGET = "trainer.loss_threshold", "evaluation.targets.train_loss"


def _passed_at_start(config: Config, start: float, typed: Collection[str] | None) -> Iterator[str]:
    """Yield a line for a threshold above the loss at the start; `typed` is None if a threshold has a default."""
    threshold, targets = config.trainer.loss_threshold, config.evaluation.targets
    has = f"the untrained network has {start:.4g}"
    if threshold is None and typed is not None and THRESHOLD not in typed and not any(asdict(targets).values()):
        yield f"{THRESHOLD}: name the loss to look for, {has}; null looks for none"
    if threshold is not None and threshold >= start:
        yield f"{THRESHOLD}={to_text(threshold)}: {has}; choose a smaller one"
    if targets.train_loss and max(targets.train_loss) >= start:
        yield f"{TARGET}={to_text(targets.train_loss)}: {has}; choose smaller ones"


def _check_program(planned: Plan) -> None:
    """Raise `InvalidConfig` if there is no such program here; the machines of a cluster may have it."""
    program = words_of(planned.settings)[0]
    if not planned.launcher.is_slurm and shutil.which(program, path=search_path()) is None:
        raise InvalidConfig(f"command={planned.settings.command}: there is no program {program} here")


SETTLED_THERE = "settled where it runs"


def engines(planned: Plan) -> dict[str, str]:
    """Return the engine of every run by its folder, or those that will be tried; asked once for runs that are alike.

    A device that this machine does not have is no mistake if the runs train elsewhere.
    """
    if planned.settings.command is not None:
        return dict.fromkeys((run.folder for run in planned.runs), OWN_LOOP)
    asked: dict[str, str] = {}
    found = {}
    for run in planned.runs:
        config = run.config
        parts = (config.model, config.optimizer, config.schedule, config.loss, config.engine, config.device)
        alike = repr((name_of(config.data), config.data.batch_size, config.data.micro_batch, *parts))
        if alike not in asked:
            try:
                options, _ = options_here(config)
                asked[alike] = " or ".join(dict.fromkeys(option.engine for option in options))
                if planned.launcher.elsewhere and (config.engine.name, config.device) == ("auto", "auto"):
                    asked[alike] = SETTLED_THERE
            except (DeviceUnavailable, EngineRefused):
                # Whether the other machine has a GPU, only its job sees.
                if not planned.launcher.elsewhere or not _wants_gpu(config) or resolve_device("auto").type != "cpu":
                    raise
                asked[alike] = SETTLED_THERE
            except (RuntimeError, MemoryError) as error:
                reason = (str(error).splitlines() or ["out of memory"])[0]
                raise InvalidConfig(f"model={config.model.name}: cannot be built ({reason})") from error
        found[run.folder] = asked[alike]
    return found


def _wants_gpu(config: Config) -> bool:
    return config.device not in ("auto", "cpu") or config.engine.name.startswith("cuda")


HEADER = ("run", "batch size", "lr", "weight decay", "seed", "epochs", "engine", "would")


def preview(planned: Plan, earlier: RecordedSweep | None) -> list[list[str]]:
    """Return a row under `HEADER` for every run, with what is done of it already in `earlier`, a sweep to resume."""
    engine = engines(planned)
    return [
        [
            run.folder,
            str(run.config.data.batch_size),
            setting("lr", run.config.optimizer.lr),
            setting("weight_decay", run.config.optimizer.weight_decay),
            str(run.config.seed),
            str(run.config.trainer.num_epochs),
            _engine_before(run, earlier) or engine[run.folder],
            _would(run, earlier),
        ]
        for run in planned.runs
    ]


def _engine_before(run: PlannedRun, earlier: RecordedSweep | None) -> str | None:
    """Return the engine that a run to resume keeps, None if it has trained nothing yet."""
    before = earlier.runs.get(run.folder) if earlier else None
    return recorded_engine(run.config, before.record) if before and before.epochs else None


def _would(run: PlannedRun, earlier: RecordedSweep | None) -> str:
    if earlier and (before := earlier.runs.get(run.folder)):
        if is_finished(before, run.config):
            return f"be kept: {before.record.status} after {before.epochs} epochs"
        return f"resume after epoch {before.epochs}: {before.record.status}"
    if earlier and run.folder in earlier.unreadable:
        return f"start at epoch 1; its record is unreadable: {earlier.folder / run.folder}"
    return "start at epoch 1"


def _unknown_names(config: Config) -> Iterator[str]:
    yield from _unknown("data.name", config.data.name, DATASETS)
    if config.data.fallback is not None:
        yield from _unknown("data.fallback", config.data.fallback, DATASETS, "null")
    yield from _unknown("model.name", config.model.name, MODELS)
    yield from _unknown("optimizer.name", config.optimizer.name, OPTIMIZERS)
    yield from _unknown("loss.name", config.loss.name, LOSSES)
    yield from _unknown("engine.name", config.engine.name, ENGINES, "auto")


def _unknown(key: str, name: str, registry: Mapping[str, object], *others: str) -> Iterator[str]:
    if name not in registry and name not in others:
        yield f"{key}={name}: choose {' or '.join([*registry, *others])}"


def _sizes(config: Config, typed: Collection[str]) -> Iterator[str]:
    """A line for everything that is larger than a data set whose size is known before it is loaded."""
    known = DATASETS.get(config.data.name)
    if known:
        yield from too_large(config, config.data.name, known.train_samples, known.test_samples, typed)


def _of_own_data(config: Config, typed: Collection[str], say: Callable[[str], None]) -> Iterator[str]:
    if isinstance(config.data, OwnDataConfig):
        flush_denormals_from_now_on()
        yield from unfit(config, load(config.data, name_of(config.data), say), typed)


def unfit(config: Config, digits: Digits, typed: Collection[str] = ()) -> Iterator[str]:
    """Yield a line for everything in `config` that does not fit a data set which has been loaded.

    More digits to evaluate on than there are is a mistake only if it was `typed`: otherwise they are all taken.
    """
    yield from too_large(config, digits.name, len(digits.train_labels), len(digits.test_labels), typed)
    digits = for_run(digits, config)
    outputs, classes = config.model.num_classes, digits.num_classes
    if digits.train_labels.is_floating_point() and config.loss.name != "own" and outputs != classes:
        yield f"model.num_classes={outputs}: must be {classes}, the numbers in a label of {digits.name}"
    elif outputs is not None and outputs < classes:
        yield f"model.num_classes={outputs}: must be at least {classes}, the classes of {digits.name}"


def too_large(
    config: Config, dataset: str, train_samples: int | None, test_samples: int | None, typed: Collection[str]
) -> Iterator[str]:
    """Yield a line for everything in `config` that is larger than a data set of so many examples; None: not known."""
    evaluation, schedule = config.evaluation, config.schedule
    largest = max((size for _, size in sizes_in(schedule.batch) or ()), default=None)
    for key, wanted, there, purpose, instead in (
        ("data.batch_size", None if largest else config.data.batch_size, train_samples, "train on", ""),
        ("schedule.batch", largest, train_samples, "train on", ""),
        ("schedule.largest_batch", schedule.largest_batch, train_samples, "train on", ", or null for all"),
        ("evaluation.train_samples", evaluation.train_samples, train_samples, "train on", ", or null for all"),
        ("evaluation.test_samples", evaluation.test_samples, test_samples, "test with", ", or null for all"),
    ):
        is_checked = not key.startswith("evaluation.") or key in typed
        if is_checked and wanted is not None and there is not None and wanted > there:
            right = f"must be at most {there}, the number of examples to {purpose} in {dataset}{instead}"
            yield f"{key}={schedule.batch if key == 'schedule.batch' else wanted}: {right}"
