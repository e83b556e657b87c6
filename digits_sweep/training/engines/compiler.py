"""C code, compiled when it is first needed and kept: by the user's compiler, for the processor it runs on."""

import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path

from digits_sweep.errors import EngineRefused

# A product and a sum may become one instruction, and no error number is kept of a root: neither reorders anything.
FLAGS = ("-O3", "-std=c11", "-shared", "-fPIC", "-pthread", "-ffp-contract=fast", "-fno-math-errno")
# How compilers name the processor that they run on.
PROCESSOR_FLAGS = ("-march=native", "-mcpu=native")
# For some processors GCC 13 makes one instruction of a product and a sum in one loop and two in another, so that the
# last bit would depend on how the work is shared among threads. Other compilers need not know this.
ALIKE_EVERYWHERE = "--param=avoid-fma-max-bits=0"
# A compiler that hangs must not stop a sweep for ever.
SECONDS = 300


def load_library(source: Path) -> ctypes.CDLL:
    """Return the library that `source`, a C file that includes others beside it, compiles to. Calls release the GIL.

    It is compiled once for each compiler, processor and text, and kept in the user's cache folder; if it cannot be kept
    there, every process compiles it in a temporary folder. Raises `EngineRefused` if there is no compiler or it cannot
    compile this. A process asks the compiler once.
    """
    library = _library_or_reason(source, tuple(find_compiler()))
    if isinstance(library, str):
        raise EngineRefused(library)
    return library


def find_compiler() -> list[str]:
    """Return the C compiler's command: the words of $CC, or cc. Raises `EngineRefused` if there is no such program."""
    try:
        compiler = shlex.split(os.environ.get("CC") or "cc")
    except ValueError as error:
        raise EngineRefused(f"CC={os.environ['CC']} is not a command ({error})") from error
    if not compiler or shutil.which(compiler[0]) is None:
        raise EngineRefused(f"no C compiler ({' '.join(compiler)}) on this machine")
    return compiler


@cache
def _library_or_reason(source: Path, compiler: tuple[str, ...]) -> ctypes.CDLL | str:
    """Return the library that this compiler makes, or why it makes none."""
    try:
        command, name = _prepared(source, compiler)
        if library := _load_or_compile(command, source, name):
            return library
        with tempfile.TemporaryDirectory() as temporary:
            return _compile(command, source, Path(temporary, name))
    except EngineRefused as refused:
        return str(refused)
    except OSError as error:
        return f"what the C compiler makes cannot be loaded ({error})"


def _load_or_compile(command: list[str], source: Path, name: str) -> ctypes.CDLL | None:
    """Return the library in the user's cache folder, compiled if it is not there; None if it cannot be kept there."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        if not base.is_absolute():
            return None
        folder = base / "digits_sweep" / "native"
        library = folder / name
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_out_of_others_reach(folder):
            return None
        if library.exists() and _is_out_of_others_reach(library):
            with suppress(OSError):  # It is damaged, or of another system that shares this home.
                return ctypes.CDLL(str(library))
        return _compile(command, source, library)
    except (EngineRefused, OSError, RuntimeError):
        # The folder is read-only or full, nothing in it may be executed, or the user has no home. If it is the text,
        # the next try says so.
        return None


def _is_out_of_others_reach(path: Path) -> bool:
    """Return whether only this user and the superuser can change what is at `path`, as ssh asks it of a key's folder.

    Raises OSError if there is nothing.
    """
    if os.name != "posix":
        return True
    real = path.resolve(strict=True)
    for above in {path, real, *path.parents, *real.parents}:
        status = above.stat()
        # In a folder such as /tmp everyone may write, but rename or remove only what is their own.
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if shared or status.st_uid not in (0, os.geteuid()):
            return False
    return True


def _prepared(source: Path, compiler: tuple[str, ...]) -> tuple[list[str], str]:
    """Return the command that compiles for this processor, and a file name for what it makes of `source`.

    The name is a digest of the text, the command, and all that the compiler defines: its version, and what the
    processor can do.
    """
    for flag, alike in product(PROCESSOR_FLAGS, ([ALIKE_EVERYWHERE], [])):
        command = [*compiler, flag, *alike, *FLAGS]
        defined = _run([*command, "-dM", "-E", "-x", "c", os.devnull])
        if defined.returncode == 0:
            break
    else:
        raise EngineRefused(f"{compiler[0]} knows neither {' nor '.join(PROCESSOR_FLAGS)}: {_reason(defined)}")
    texts = [path.read_bytes() for path in sorted(source.parent.iterdir()) if path.suffix in (".c", ".h")]
    parts = [" ".join(command).encode(), defined.stdout.encode(), *texts]
    return command, hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest() + ".so"


def _compile(command: list[str], source: Path, library: Path) -> ctypes.CDLL:
    """Compile into a temporary file beside `library`, load it and rename it: whoever else does so, the file is whole.

    Raises `EngineRefused` if the compiler reports an error, and OSError if the folder cannot be used.
    """
    number, unfinished = tempfile.mkstemp(dir=library.parent, suffix=".so")
    os.close(number)
    try:
        finished = _run([*command, "-o", unfinished, str(source), "-lm"])
        if finished.returncode != 0:
            raise EngineRefused(f"{command[0]} cannot compile it: {_reason(finished)}")
        Path(unfinished).chmod(0o700)
        loaded = ctypes.CDLL(unfinished)
        Path(unfinished).replace(library)
        return loaded
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineRefused(f"{command[0]} does not run: {error}") from error


def _reason(finished: "subprocess.CompletedProcess[str]") -> str:
    """Return the line of a compiler's output that says what is wrong."""
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else f"exit code {finished.returncode}")
