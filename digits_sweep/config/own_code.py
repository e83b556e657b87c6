"""Code of the user's by its name, `module:name`: data, a network, an optimizer or a loss, and what a run depends on.

A name is imported only if it comes from the command line. Names in a sweep's file are compared, never imported. What
a program passes to `run` and no other process could import has a name too, `object:Network`, which this process alone
knows.
"""

import hashlib
import inspect
import logging
import secrets
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, cast

from digits_sweep.config.own_modules import digests_of, is_users, read_module
from digits_sweep.config.process_state import changes_taken_back
from digits_sweep.config.schema import Config
from digits_sweep.config.text import to_text
from digits_sweep.errors import LONGEST_REASON, InvalidConfig, OwnCodeFailed, shortened

log = logging.getLogger(__name__)

# The groups that may name code.
GROUPS = ("data", "model", "optimizer", "loss")
# In the place of a module: the object is one of this process.
OBJECT = "object"
NOT_HERE = "was passed to run as an object, and is no file: pass it again, run({group}=...), with all the rest"
_objects: dict[str, Any] = {}
_PROCESS = secrets.token_hex(8)


def is_object(target: object) -> bool:
    """Return whether `target` names an object that was passed to `run`, and no code that a process can import."""
    return str(target).startswith(f"{OBJECT}:")


def name_object(group: str, value: Callable[..., Any]) -> str:
    """Return the name by which `imported` finds a class or a function, or the one that was called so last.

    It is `module:name` if other processes can import it, else `object:name`. Raises `InvalidConfig` if it is from a
    module that has been edited since, `OwnCodeFailed` if that cannot be read again.
    """
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    name = path.rpartition(".")[2]
    if module not in (None, "__main__") and (there := _attribute(sys.modules.get(module), path)) is not None:
        target, was_there = f"{module}:{path}", there is value
        if imported(group, target) is value:
            return target
        if was_there or digests_of(module):
            raise InvalidConfig(f"{group}={name}: {module} has changed since it was imported; import it again")
    target = f"{OBJECT}:{name if name.isidentifier() else group}"
    _objects[target] = value
    return target


def _attribute(module: Any, path: str) -> Any:
    return reduce(lambda value, name: getattr(value, name, None), path.split("."), module)


def object_called(target: str) -> Any:
    """Return what `run` was passed under this name; None if it is a module's, or no object of this process."""
    return _objects.get(target)


def imported(group: str, target: str) -> Callable[..., Any]:
    """Import what `target`, `module:name`, names in the working folder or an installed package.

    Raises `OwnCodeFailed` with one line if there is no such thing, `InvalidConfig` if it cannot be called.
    """
    if is_object(target):
        if target not in _objects:
            raise InvalidConfig(f"{group}.target={target}: {NOT_HERE.format(group=group)}")
        return cast(Callable[..., Any], _objects[target])
    module, _, name = target.partition(":")
    # A command that is not started by `python -m` does not look into the working folder.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with errors_as_a_line(group, target, "cannot be imported"), changes_taken_back(f"{group}.target={target}"):
        function = reduce(getattr, name.split("."), read_module(module))
    if not callable(function):
        raise InvalidConfig(f"{group}.target={target}: is {type(function).__name__}, must be a class or a function")
    return function


def called(group: str, target: str, arguments: Mapping[str, Any], *first: Any, **offered: Any) -> Any:
    """Call what `target` names with `first`, with `arguments`, and with what of `offered` it has a parameter for.

    A function that takes any keyword gets `num_classes` if that is offered: so do the builders of torchvision and timm.

    Raises `InvalidConfig` with one line if it takes other arguments, `OwnCodeFailed` if it raises an error.
    """
    function = imported(group, target)
    try:
        signature = inspect.signature(function)
    except ValueError:
        signature = None
    keywords = dict(arguments)
    named = {"num_classes"} - offered.keys() | arguments.keys()
    if signature:
        takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
        named |= signature.parameters.keys()
        wanted = {*named, *(["num_classes"] if takes_any else [])} - arguments.keys()
        keywords |= {name: value for name, value in offered.items() if name in wanted}
        try:
            signature.bind(*first, **keywords)
        except TypeError as error:
            takes = f"{target} takes {', '.join(signature.parameters) or 'none'}"
            raise InvalidConfig(f"{group}.arguments={to_text(arguments)}: {error}; {takes}") from error
    try:
        with changes_taken_back(f"{group}.target={target}"):
            return function(*first, **keywords)
    # Code of the user's may raise anything, and call sys.exit.
    except (Exception, SystemExit) as error:
        if isinstance(error, TypeError) and "num_classes" in str(error) and "num_classes" not in named:
            del offered["num_classes"]
            return called(group, target, arguments, *first, **offered)
        raise mistake(group, target, "fails" if group == "data" else "cannot be built", error) from error


@contextmanager
def errors_as_a_line(group: str, target: str, what: str) -> Iterator[None]:
    """Turn whatever the user's code in the block raises, and sys.exit, into `OwnCodeFailed` with one line."""
    try:
        yield
    except InvalidConfig:
        raise
    except (Exception, SystemExit) as error:
        raise mistake(group, target, what, error) from error


def mistake(group: str, target: str, what: str, error: BaseException) -> OwnCodeFailed:
    """Return the line for an error in the user's code, with file and line if known; a log gets its traceback."""
    log.info("%s.target=%s: %s", group, target, what, exc_info=error)
    reason = shortened((str(error).strip().splitlines() or ["no reason given"])[0], LONGEST_REASON)
    return OwnCodeFailed(f"{group}.target={target}: {what} ({type(error).__name__}: {reason}){_where(error)}")


def _where(error: BaseException) -> str:
    """Return the file and the line of the user's code that an error comes from; nothing if it comes from elsewhere."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_users(file := Path(frame.filename).resolve()):
            return f", {file.name} line {frame.lineno}"
    return ""


def sources(config: Config) -> dict[str, str]:
    """Return the SHA-256 of every file with code of the user's that `config` needs.

    That is the file of what it names, by its key (`model.target`), and those of the user's modules which that imports,
    by their names, all as they were when this process read them. Of an object it is that of its source. Files of
    installed packages are left out: their versions are in the record. Raises `InvalidConfig` if the code cannot be
    imported.
    """
    digests = {}
    for group in GROUPS:
        target = getattr(getattr(config, group), "target", None)
        if target is None:
            continue
        function, module = imported(group, target), target.partition(":")[0]
        if is_object(target):
            digests[f"{group}.target"] = hashlib.sha256(_source(function)).hexdigest()
        elif own := dict(digests_of(module)):
            digests[f"{group}.target"] = own.pop(module)
            digests |= own
    return digests


def _source(function: Callable[..., Any]) -> bytes:
    """Return the source of an object."""
    # Python finds no source of a class in a notebook, but those of its methods.
    parts: list[Any] = [part for part in vars(function).values() if inspect.isfunction(part)] or [function]
    try:
        return "".join(map(inspect.getsource, parts)).encode()
    # It may have been made by exec, or be no function: no other process can say that it is the same.
    except (OSError, TypeError):
        return f"{_PROCESS} {id(function)}".encode()


def changed_code(config: Config, before: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for every file of the user's code that is not what it was when `sources` returned `before`."""
    now = sources(config) if before else {}
    for key in before:
        if now.get(key) != before[key]:
            yield f"{key}: its file has changed since the run started"
