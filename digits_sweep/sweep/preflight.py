"""What can be known of a plan before anything is written: the parts it names, engines, sizes; a dry run."""

import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from digits_sweep.config.own_command import search_path, words_of
from digits_sweep.config.plan import Plan
from digits_sweep.config.process_state import what_was_taken_back
from digits_sweep.config.schema import Config, OwnDataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import DATASETS, load, name_of
from digits_sweep.errors import InvalidConfig, OwnCodeFailed, escape_controls
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.files import make_folder, replace_file
from digits_sweep.trackers.registry import check as check_trackers
from digits_sweep.training.building import engine_for
from digits_sweep.training.device import flush_denormals_from_now_on
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.model import MODELS
from digits_sweep.training.optimizers import OPTIMIZERS

FILE = "own-code.log"


@contextmanager
def traceback_in_file(outputs: Path) -> Iterator[None]:
    """Write the traceback of the user's code that fails in the block to `own-code.log` in `outputs`, and name the file.

    The file holds the last such traceback and nothing else. If it cannot be written, the message stays as it is.
    Raises `OwnCodeFailed`.
    """
    try:
        yield
    except OwnCodeFailed as failed:
        error = failed.__cause__
        if error is None:
            raise
        path = outputs / FILE
        lines = [f"{datetime.now():%Y-%m-%d %H:%M:%S} {failed}\n", *traceback.format_exception(error)]
        try:
            make_folder(outputs)
            replace_file(path, escape_controls("".join(lines)), durable=False)
        except OSError:
            raise failed from error
        raise OwnCodeFailed(f"{failed}; its traceback is in {path}") from error


def check(planned: Plan, say: Callable[[str], None] = lambda line: None) -> None:
    """Refuse a plan that names what there is not, or what cannot be trained on this machine.

    The user's own data are loaded for that; `say` gets a line for what takes long, and for what
    the user's code has changed of this process.

    Raises `InvalidConfig`, `DeviceUnavailable` or `EngineRefused`, with a line for every mistake; `OwnCodeFailed` names
    the file with the traceback.
    """
    with traceback_in_file(planned.outputs):
        _check(planned, say)
    for line in what_was_taken_back():
        say(f"WARNING: {line}")


def _check(planned: Plan, say: Callable[[str], None]) -> None:
    check_trackers(planned.settings.tracker)
    if planned.settings.command is not None:
        _check_program(planned)
        return
    found = dict.fromkeys(line for run in planned.runs for line in [*_unknown_names(run.config), *_sizes(run.config)])
    found |= dict.fromkeys(line for run in planned.runs for line in _of_own_data(run.config, say) if not found)
    if found:
        raise InvalidConfig("\n".join(found))
    engines(planned)


def _check_program(planned: Plan) -> None:
    """Raise `InvalidConfig` if there is no such program here; the machines of a cluster may have it."""
    program = words_of(planned.settings)[0]
    if not planned.launcher.is_slurm and shutil.which(program, path=search_path()) is None:
        raise InvalidConfig(f"command={planned.settings.command}: there is no program {program} here")


def engines(planned: Plan) -> dict[str, str]:
    """Return the name of the engine of every run, by its folder. Engines are asked once for runs that are alike."""
    if planned.settings.command is not None:
        return dict.fromkeys((run.folder for run in planned.runs), OWN_LOOP)
    asked: dict[str, str] = {}
    found = {}
    for run in planned.runs:
        config = run.config
        alike = repr(
            (name_of(config.data), config.model, config.optimizer, config.schedule, config.engine, config.device)
        )
        if alike not in asked:
            try:
                asked[alike], _ = engine_for(config)
            except (RuntimeError, MemoryError) as error:
                reason = (str(error).splitlines() or ["out of memory"])[0]
                raise InvalidConfig(f"model={config.model.name}: cannot be built ({reason})") from error
        found[run.folder] = asked[alike]
    return found


def _unknown_names(config: Config) -> Iterator[str]:
    yield from _unknown("data.name", config.data.name, DATASETS)
    if config.data.fallback is not None:
        yield from _unknown("data.fallback", config.data.fallback, DATASETS, "null")
    yield from _unknown("model.name", config.model.name, MODELS)
    yield from _unknown("optimizer.name", config.optimizer.name, OPTIMIZERS)
    yield from _unknown("engine.name", config.engine.name, ENGINES, "auto")


def _unknown(key: str, name: str, registry: Mapping[str, object], *others: str) -> Iterator[str]:
    if name not in registry and name not in others:
        yield f"{key}={name}: choose {' or '.join([*registry, *others])}"


def _sizes(config: Config) -> Iterator[str]:
    """A line for everything that is larger than a data set whose size is known before it is loaded."""
    known = DATASETS.get(config.data.name)
    if known:
        yield from too_large(config, config.data.name, known.train_samples, known.test_samples)


def _of_own_data(config: Config, say: Callable[[str], None]) -> Iterator[str]:
    if isinstance(config.data, OwnDataConfig):
        flush_denormals_from_now_on()
        yield from unfit(config, load(config.data, name_of(config.data), say))


def unfit(config: Config, digits: Digits) -> Iterator[str]:
    """Yield a line for everything in `config` that does not fit a data set which has been loaded."""
    yield from too_large(config, digits.name, len(digits.train_labels), len(digits.test_labels))
    classes, own = digits.num_classes, isinstance(config.data, OwnDataConfig)
    if own and config.data.num_classes != classes:
        right = f"must be {classes}, as {digits.name} has labels 0 to {classes - 1}"
        yield f"data.num_classes={config.data.num_classes}: {right}"
    elif config.model.num_classes < classes:
        yield f"model.num_classes={config.model.num_classes}: must be at least {classes}, the classes of {digits.name}"


def too_large(config: Config, dataset: str, train_samples: int | None, test_samples: int | None) -> Iterator[str]:
    """Yield a line for everything in `config` that is larger than a data set of so many examples; None: not known."""
    evaluation = config.evaluation
    for key, wanted, there, purpose, instead in (
        ("data.batch_size", config.data.batch_size, train_samples, "train on", ""),
        ("evaluation.train_samples", evaluation.train_samples, train_samples, "train on", ", or null for all"),
        ("evaluation.test_samples", evaluation.test_samples, test_samples, "test with", ", or null for all"),
    ):
        if wanted is not None and there is not None and wanted > there:
            right = f"must be at most {there}, the number of examples to {purpose} in {dataset}{instead}"
            yield f"{key}={wanted}: {right}"
