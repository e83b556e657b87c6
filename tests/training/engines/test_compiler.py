"""C code is compiled when it is first needed, once for each compiler, processor and text, or refused in words."""

import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines import compiler
from digits_sweep.training.engines.compiler import load_library
from digits_sweep.training.engines.native import NativeEngine
from tests.workloads import choose_engine, workload

CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def new_process(tmp_path, monkeypatch) -> Iterator[None]:
    """What is known of compilers is forgotten before and after every test, and the cache folder is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    compiler._library_or_reason.cache_clear()
    yield
    compiler._library_or_reason.cache_clear()


@pytest.fixture
def source(tmp_path) -> Path:
    """A C file that includes another, and returns 7."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "seven.h").write_text("#define SEVEN 7\n")
    (tmp_path / "text" / "seven.c").write_text('#include "seven.h"\nint seven(void) { return SEVEN; }\n')
    return tmp_path / "text" / "seven.c"


def loaded_by_another_process(source: Path) -> int:
    """As if in another process: nothing is known, and the cache folder is as it was left."""
    compiler._library_or_reason.cache_clear()
    return load_library(source).seven()


@pytest.fixture
def library(source, tmp_path) -> Path:
    """What another process has compiled and kept."""
    loaded_by_another_process(source)
    (kept,) = libraries(tmp_path)
    return kept


def libraries(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "digits_sweep" / "native").glob("*.so"))


def command(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@needs_cc
def test_it_is_compiled_once_and_kept_in_the_cache_folder(library, source, monkeypatch):
    assert library.suffix == ".so"
    monkeypatch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
    assert loaded_by_another_process(source) == 7


@needs_cc
def test_another_text_compiler_or_processor_is_compiled_for_anew(source, tmp_path, monkeypatch):
    """What the compiler defines for the processor that it runs on is all that is known of the processor."""
    loaded_by_another_process(source)
    (source.parent / "seven.h").write_text("#define SEVEN 8\n")
    assert loaded_by_another_process(source) == 8
    monkeypatch.setenv("CC", "cc -DOTHER")
    assert loaded_by_another_process(source) == 8
    other = command(tmp_path / "other", f'case "$*" in *-dM*) echo "#define __AVX9__";; *) exec {CC} "$@";; esac')
    monkeypatch.setenv("CC", other)
    assert loaded_by_another_process(source) == 8
    command(tmp_path / "other", f'exec {CC} "$@"')
    assert loaded_by_another_process(source) == 8
    assert len(libraries(tmp_path)) == 5


@needs_cc
def test_a_damaged_library_is_never_loaded_and_compiled_anew(library, source):
    """Loaded, one that ends early kills the process, and one with another byte computes something else."""
    content = library.read_bytes()
    library.unlink()  # It is mapped into this process.
    library.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    library.chmod(0o600)
    assert loaded_by_another_process(source) == 7
    assert library.read_bytes() == content


@needs_cc
def test_without_a_cache_folder_it_is_compiled_in_a_temporary_one(source, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = {*tmp_path.iterdir()}
    assert loaded_by_another_process(source) == 7
    assert {*tmp_path.iterdir()} == before


@needs_cc
@pytest.mark.full
def test_processes_that_start_together_all_get_it_and_leave_one_file(source, tmp_path):
    program = (
        "import sys, pathlib; from digits_sweep.training.engines.compiler import load_library;"
        "print(load_library(pathlib.Path(sys.argv[1])).seven())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(source)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in started] == ["7"] * 2
    assert len(libraries(tmp_path)) == 1


# Without a compiler


@pytest.mark.parametrize("is_planned", [False, True])
@pytest.mark.parametrize("typed", [None, "no_such_compiler -O1"])
def test_without_a_compiler_the_closed_form_is_taken_and_the_reason_is_recorded(
    typed, is_planned, tmp_path, monkeypatch
):
    monkeypatch.setenv(*("CC", typed) if typed else ("PATH", str(tmp_path)))
    given, reason = planned() if is_planned else workload(), f"no C compiler ({typed or 'cc'}) on this machine"
    name, reasons = choose_engine("auto", given)
    assert name == "closed_form"
    assert f"not native: {reason}" in reasons
    with pytest.raises(EngineRefused, match=f"^engine=native: {re.escape(reason)}; engine=auto picks"):
        choose_engine("native", given)


@needs_cc
def test_what_a_compiler_reports_is_the_reason(source, tmp_path):
    source.write_text("int seven(void) { return EIGHT; }\n")
    with pytest.raises(EngineRefused, match=r"^cc cannot compile it: .*seven.c:1:.* error: .*EIGHT"):
        load_library(source)
    assert libraries(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "#!/bin/sh\necho error: what is native? >&2; exit 1",
            "knows neither -march=native nor -mcpu=native: error: what is",
        ),
        ("\x00\x01", "does not run: "),
    ],
    ids=["it does not know its processor", "it is no program"],
)
def test_a_compiler_that_cannot_compile_is_refused(text, reason, source, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", command(tmp_path / "odd", ""))
    (tmp_path / "odd").write_text(text)
    with pytest.raises(EngineRefused) as refused:
        load_library(source)
    assert str(refused.value).startswith(f"{tmp_path}/odd {reason}")


def test_a_command_that_cannot_be_read_is_refused(source, monkeypatch):
    monkeypatch.setenv("CC", "'cc")
    with pytest.raises(EngineRefused, match=r"^CC='cc is not a command \(No closing quotation\)$"):
        load_library(source)


@needs_cc
def test_planning_runs_no_compiler_and_a_process_asks_it_once(monkeypatch):
    fail = lambda *_, **__: pytest.fail("a compiler was run")  # noqa: E731
    with monkeypatch.context() as planning:
        planning.setattr(subprocess, "run", fail)
        assert choose_engine("auto", planned())[0] == "native"
    assert NativeEngine.refusal(workload()) is None
    monkeypatch.setattr(subprocess, "run", fail)
    assert NativeEngine.refusal(workload()) is None


def planned():
    return replace(workload(), model=workload().model.to("meta"))
