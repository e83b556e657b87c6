"""Modules of the user's: which files a module depends on, and reading them again once they have changed.

Python reads a module once in a process. In a notebook it is edited between two cells, and what trains then must be what
its file says, because that is what the record names.
"""

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

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
            # Python takes its compiled file for current if the other has the same size and was written in that second.
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

    What a program imports by a name that it makes up is not among them.
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

    Of one that a loader of its own has changed while importing it, nobody can tell.
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
