"""C code, compiled when it is first needed and kept: by the user's compiler, for the processor it runs on."""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path

from digits_sweep.errors import EngineRefused
from digits_sweep.results.files import cache_file, keep, read_kept

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
        kept = cache_file("native", name)
        if kept and read_kept(kept):
            with suppress(OSError):  # It is of another system that shares this home.
                return ctypes.CDLL(str(kept))
        with tempfile.TemporaryDirectory() as temporary:
            library = Path(temporary, name)
            content = _compile(command, source, library)
            if kept:
                with suppress(OSError):  # Its disk is full, or nothing there may be executed.
                    keep(kept, content)
                    return ctypes.CDLL(str(kept))
            return ctypes.CDLL(str(library))
    except EngineRefused as refused:
        return str(refused)
    except OSError as error:
        return f"what the C compiler makes cannot be loaded ({error})"


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


def _compile(command: list[str], source: Path, library: Path) -> bytes:
    """Compile `source` into the new file `library` and return its content.

    Raises `EngineRefused` if the compiler reports an error, and OSError if the folder cannot be used.
    """
    finished = _run([*command, "-o", str(library), str(source), "-lm"])
    if finished.returncode != 0:
        raise EngineRefused(f"{command[0]} cannot compile it: {_reason(finished)}")
    return library.read_bytes()


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineRefused(f"{command[0]} does not run: {error}") from error


def _reason(finished: "subprocess.CompletedProcess[str]") -> str:
    """Return the line of a compiler's output that says what is wrong."""
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else f"exit code {finished.returncode}")
