"""Code of the user's by its name, `module:name`: data, a network, an optimizer or a loss, and what a run depends on.

A name is imported only if it comes from the command line. Names in a sweep's file are compared, never imported. What
a program passes to `run` and no other process could import has a name too, `object:Network`, which this process alone
knows.

Python reads a module once in a process. In a notebook it is edited between two cells, and what trains then must be what
its file says, because that is what the record names. What such code changes of the process is put back, and said: other
runs must not depend on it.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import logging
import os
import secrets
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import reduce
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, cast

from digits_sweep.config.schema import OWN_GROUPS, Config
from digits_sweep.config.text import to_text
from digits_sweep.errors import LONGEST_REASON, InvalidConfig, OwnCodeFailed, shortened

log = logging.getLogger(__name__)

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
    """Call what `target` names with `first`, `arguments`, and those of `offered` that it has parameters for.

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

    These are the file of everything that it names, by its key (`model.target`), and the user's modules that those files
    import, by module, as this process read them. An object has the digest of its source. Files of installed packages
    are left out: their versions are in the record. Raises `InvalidConfig` if the code cannot be imported.
    """
    digests = {}
    for group in OWN_GROUPS:
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


_NOT_THEIRS = [
    Path(__file__).resolve().parents[1],
    *(Path(path).resolve() for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))),
]
# The digest of every file that a module depends on, as it was when it was read here, by the names of both modules.
_read: dict[str, dict[str, str]] = {}
# Modules that are not looked at again before the command ends, so that all runs of a sweep have the same code.
_settled: set[str] = set()


def expect_changes() -> None:
    """Look at the files of the user's modules once more: another command begins in this process."""
    _settled.clear()


def read_module(name: str) -> ModuleType:
    """Import a module; if it is the user's and one of its files has changed since it was read, read it again.

    Raises whatever the module raises.
    """
    if name in _settled:
        return importlib.import_module(name)
    files = files_of(name)
    digests = {each: _digest(file) for each, file in files.items()}
    loaded = {each: sys.modules[each] for each in files if each in sys.modules}
    if name in _read:
        is_current = _read[name] == digests
    else:
        is_current = all(_has_code_of(module, files[each]) for each, module in loaded.items())
    if not is_current:
        _read.pop(name, None)
        importlib.invalidate_caches()
        for each, module in loaded.items():
            # Python takes its compiled file for current if the source has the same size and was written in the same
            # second.
            with suppress(OSError, NotImplementedError):
                Path(importlib.util.cache_from_source(str(files[each]))).unlink(missing_ok=True)
            importlib.reload(module)
    module = importlib.import_module(name)
    _read[name] = digests
    _settled.add(name)
    return module


def digests_of(name: str) -> dict[str, str]:
    """Return the SHA-256 of every file of the user's that a module depends on, as it was read, by module."""
    return _read.get(name) or {each: _digest(file) for each, file in files_of(name).items()}


def files_of(name: str) -> dict[str, Path]:
    """Return the user's file of a module and of all modules of the user's that it imports, those it needs first.

    Imports by a computed name are not found.
    """
    files: dict[str, Path] = {}
    _collect(name, files, set())
    return files


def is_users(file: Path) -> bool:
    """Return whether a file is the user's: no part of Python, of an installed package or of this program."""
    return file.is_file() and not any(map(file.is_relative_to, _NOT_THEIRS)) and "-packages" not in str(file)


def _collect(name: str, files: dict[str, Path], seen: set[str]) -> None:
    if name in seen:
        return
    seen.add(name)
    file = _file_of(name)
    if file is None:
        return
    parent = name.rpartition(".")[0]
    package = name if file.name == "__init__.py" else parent
    for each in [parent, *_imports(file, package)]:
        if each:
            _collect(each, files, seen)
    files[name] = file


def _file_of(name: str) -> Path | None:
    """Return the file of a module, without importing anything, or None if it is not the user's."""
    spec, path = None, None
    for end in range(1, name.count(".") + 2):
        spec = PathFinder.find_spec(".".join(name.split(".")[:end]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    file = Path(spec.origin).resolve() if spec and spec.origin else None
    return file if file and file.suffix == ".py" and is_users(file) else None


def _imports(file: Path, package: str) -> Iterator[str]:
    """Yield the names of all modules that a file may import, wherever in it the import stands."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _has_code_of(module: ModuleType, file: Path) -> bool:
    """Return whether the functions of a module that somebody else imported are those that its file has now.

    This cannot be told of a module that its own loader has changed while importing it.
    """
    if type(getattr(module.__spec__, "loader", None)) is not SourceFileLoader:
        return True
    try:
        known = set(_nested(compile(file.read_bytes(), str(file), "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):
        return False
    parts = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    parts += [value for part in parts if isinstance(part, type) for value in vars(part).values()]
    codes = (getattr(part, "__code__", None) for part in parts)
    return all(code in known for code in codes if isinstance(code, CodeType) and code.co_filename == module.__file__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


OUR_THREADS, GONE = "digits_sweep", "a folder that is gone"
# What PyTorch has if the user's code is the first that imports it.
DEFAULTS = {"torch's default type": "torch.float32", "torch's default device": "cpu", "torch's gradients": True}
# What the user's code changed of this process, a line each, until somebody says it.
_taken_back: list[str] = []


@contextmanager
def changes_taken_back(who: str) -> Iterator[None]:
    """Run code of the user's, called `who`, in the block, and take back what it changes of the process.

    `what_was_taken_back` then returns a line for that, and for threads that it has left running.
    """
    before, threads = _process_state(), set(threading.enumerate())
    try:
        yield
    finally:
        for name, (value, put) in _process_state().items():
            then = before[name][0] if name in before else DEFAULTS.get(name, value)
            if value != then and then != GONE:
                put(then)
                _taken_back.append(f"{who} has changed {name} to {value}; it is {then} again")
        # The program's own are gone in a moment, and have this name.
        left = [each for each in threading.enumerate() if each not in threads and not each.name.startswith(OUR_THREADS)]
        if left:
            _taken_back.append(f"{who} has left threads running ({len(left)}), beside which later runs are timed")


def what_was_taken_back() -> list[str]:
    """Return, once, what the user's code has changed since this was called last."""
    lines = list(dict.fromkeys(_taken_back))
    _taken_back.clear()
    return lines


def _process_state() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Return what code may change of a process without being asked to, and what sets it, by its name."""
    state: dict[str, tuple[Any, Callable[[Any], Any]]] = {"the working folder": (_working_folder(), os.chdir)}
    if torch := sys.modules.get("torch"):
        state |= {
            "torch's default type": (
                str(torch.get_default_dtype()),
                lambda name: torch.set_default_dtype(getattr(torch, name.removeprefix("torch."))),
            ),
            # A device that is set, even to what it is anyway, makes every call slower.
            "torch's default device": (
                str(torch.get_default_device()),
                lambda name: torch.set_default_device(None if name == "cpu" else name),
            ),
            "torch's gradients": (torch.is_grad_enabled(), torch.set_grad_enabled),
            "torch's number of threads": (torch.get_num_threads(), torch.set_num_threads),
        }
    return state


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    # It may have been removed.
    except FileNotFoundError:
        return GONE
