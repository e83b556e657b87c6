"""Only what nobody else could have put there is loaded from the cache folder."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from digits_sweep.training.engines import compiler
from digits_sweep.training.engines.compiler import load_library

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
    pytest.mark.skipif(os.name != "posix", reason="only POSIX has such owners and modes"),
]


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A C file whose function returns 7, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "seven.c").write_text("int seven(void) { return 7; }\n")
    return tmp_path / "text" / "seven.c"


def loaded_by_another_process(source: Path) -> int:
    compiler._found.cache_clear()
    return load_library(source).seven()


def kept(tmp_path: Path) -> Path:
    (library,) = (tmp_path / "cache" / "digits_sweep" / "native").iterdir()
    return library


@pytest.mark.parametrize("open_to_others", ["cache", "cache/digits_sweep", "cache/digits_sweep/native"])
def test_a_folder_that_others_may_write_in_is_neither_loaded_from_nor_written_to(open_to_others, source, tmp_path):
    loaded_by_another_process(source)
    library = kept(tmp_path)
    library.unlink()  # It is mapped into this process.
    library.write_bytes(b"from somebody else")
    (tmp_path / open_to_others).chmod(0o777)
    assert loaded_by_another_process(source) == 7
    assert library.read_bytes() == b"from somebody else"


def test_a_library_that_others_may_write_is_compiled_anew(source, tmp_path):
    loaded_by_another_process(source)
    library = kept(tmp_path)
    library.chmod(0o770)
    before = library.stat().st_ino
    assert loaded_by_another_process(source) == 7
    assert kept(tmp_path).stat().st_ino != before


def test_others_may_not_write_what_is_kept(source, tmp_path):
    (tmp_path / "cache").mkdir(0o700)
    before = os.umask(0)
    try:
        loaded_by_another_process(source)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (kept(tmp_path), kept(tmp_path).parent)]
    assert modes == [0o700, 0o700]
