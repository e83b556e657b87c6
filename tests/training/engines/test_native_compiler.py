"""Compiled when it is first needed, once for each compiler, processor and text; refused in words if it cannot be."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines import choose_engine, compiler
from digits_sweep.training.engines.compiler import load_library
from digits_sweep.training.engines.native import NativeEngine
from tests.workloads import ADAM, workload

CC = shutil.which("cc")
needs_compiler = pytest.mark.skipif(CC is None, reason="there is no C compiler")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def new_process(tmp_path, monkeypatch) -> None:
    """What is known of compilers is forgotten before and after every test, and the cache folder is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    compiler._found.cache_clear()
    yield
    compiler._found.cache_clear()


@pytest.fixture
def source(tmp_path) -> Path:
    """A C file that includes another, and returns 7."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "seven.h").write_text("#define SEVEN 7\n")
    (tmp_path / "text" / "seven.c").write_text('#include "seven.h"\nint seven(void) { return SEVEN; }\n')
    return tmp_path / "text" / "seven.c"


def kept(tmp_path: Path) -> set[Path]:
    return set((tmp_path / "cache" / "digits_sweep" / "native").iterdir())


def command(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def loaded_by_another_process(source: Path) -> int:
    """As if in another process: nothing is known, and the cache folder is as it was left."""
    compiler._found.cache_clear()
    return load_library(source).seven()


@needs_compiler
def test_it_is_compiled_once_and_kept_in_the_cache_folder(source, tmp_path, monkeypatch):
    assert loaded_by_another_process(source) == 7
    (library,) = kept(tmp_path)
    assert library.suffix == ".so"
    monkeypatch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
    assert loaded_by_another_process(source) == 7


@needs_compiler
def test_another_text_or_compiler_is_compiled_anew(source, tmp_path, monkeypatch):
    loaded_by_another_process(source)
    (source.parent / "seven.h").write_text("#define SEVEN 8\n")
    assert loaded_by_another_process(source) == 8
    monkeypatch.setenv("CC", "cc -DOTHER")
    assert loaded_by_another_process(source) == 8
    assert len(kept(tmp_path)) == 3


@needs_compiler
def test_another_processor_is_compiled_for_anew(source, tmp_path, monkeypatch):
    """What the compiler defines for the processor that it runs on is all that is known of the processor."""
    loaded_by_another_process(source)
    other = command(tmp_path / "other", f'case "$*" in *-dM*) echo "#define __AVX9__";; *) exec {CC} "$@";; esac')
    monkeypatch.setenv("CC", other)
    assert loaded_by_another_process(source) == 7
    monkeypatch.setenv("CC", command(tmp_path / "other", f'exec {CC} "$@"'))
    assert loaded_by_another_process(source) == 7
    assert len(kept(tmp_path)) == 3


@needs_compiler
def test_a_damaged_library_is_compiled_anew(source, tmp_path):
    loaded_by_another_process(source)
    (library,) = kept(tmp_path)
    library.unlink()
    library.write_bytes(b"\x7fELF")
    assert loaded_by_another_process(source) == 7
    assert library.stat().st_size > 1_000


@needs_compiler
@pytest.mark.parametrize("base", ["a file", "relative", "no home"])
def test_without_a_cache_folder_it_is_compiled_in_a_temporary_one(base, source, tmp_path, monkeypatch):
    """A home that cannot be written to is stood in for by a file: the superuser can write anywhere."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    if base == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if base == "a file" else "relative")
    assert loaded_by_another_process(source) == 7
    assert not list((tmp_path / "temporary").iterdir())
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "relative").exists()


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@needs_compiler
@pytest.mark.full
def test_processes_that_start_together_all_get_it_and_leave_one_file(source, tmp_path):
    program = (
        "import sys, pathlib; from digits_sweep.training.engines.compiler import load_library;"
        "print(load_library(pathlib.Path(sys.argv[1])).seven())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(source)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate()[0].strip() for process in started] == ["7"] * 4
    assert len(kept(tmp_path)) == 1


def test_without_a_compiler_the_closed_form_is_taken_and_the_reason_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    name, reason = choose_engine("auto", workload().model, ADAM, CPU)
    assert name == "closed_form"
    assert "not native: no C compiler (cc) on this machine" in reason
    with pytest.raises(EngineRefused, match=r"^engine=native: no C compiler \(cc\) on this machine; engine=auto picks"):
        choose_engine("native", workload().model, ADAM, CPU)


@needs_compiler
def test_what_a_compiler_reports_is_the_reason(source, tmp_path):
    source.write_text("int seven(void) { return EIGHT; }\n")
    with pytest.raises(EngineRefused, match=r"^cc cannot compile it: .*seven.c:1:.* error: .*EIGHT"):
        load_library(source)
    assert kept(tmp_path) == set()


def test_a_compiler_that_does_not_know_its_processor_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", command(tmp_path / "odd", "echo error: what is native? >&2; exit 1"))
    with pytest.raises(EngineRefused) as refused:
        load_library(source)
    assert str(refused.value) == f"{tmp_path}/odd knows neither -march=native nor -mcpu=native: error: what is native?"


def test_a_compiler_that_is_no_program_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", command(tmp_path / "broken", ""))
    (tmp_path / "broken").write_bytes(b"\x00\x01")
    with pytest.raises(EngineRefused, match=f"^{tmp_path}/broken does not run: "):
        load_library(source)


@needs_compiler
def test_planning_runs_no_compiler(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a compiler was run"))
    assert choose_engine("auto", workload().model.to("meta"), ADAM, CPU)[0] == "native"


def test_planning_knows_that_there_is_no_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no_such_compiler -O1")
    name, reason = choose_engine("auto", workload().model.to("meta"), ADAM, CPU)
    assert name == "closed_form"
    assert "not native: no C compiler (no_such_compiler -O1) on this machine" in reason


def test_a_command_that_is_none_is_refused(source, monkeypatch):
    monkeypatch.setenv("CC", "'cc")
    with pytest.raises(EngineRefused, match=r"^CC='cc is not a command \(No closing quotation\)$"):
        load_library(source)


@needs_compiler
def test_a_process_asks_the_compiler_once(monkeypatch):
    assert NativeEngine.refusal(workload().model, ADAM, CPU) is None
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked again"))
    assert NativeEngine.refusal(workload().model, ADAM, CPU) is None
