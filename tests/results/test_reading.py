"""Files that somebody else may have made: what is read of them, and what is refused, in one line."""

import os
from pathlib import Path
from typing import Any

import pytest

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import (
    check_plain,
    decode_json,
    read_csv,
    read_file,
    read_json,
    replace_file,
    run_folders,
)

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices as POSIX has them")


def refusal(read, *arguments) -> str:
    with pytest.raises(UnreadableRecord) as refused:
        read(*arguments)
    (line,) = str(refused.value).splitlines()
    return line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "record.json"


class TestAFile:
    def test_is_read_up_to_the_limit_and_not_beyond(self, path):
        path.write_bytes(b"12345")
        assert read_file(path, 5) == b"12345"
        assert refusal(read_file, path, 4) == "record.json: 5 bytes are more than the 4 that are read"

    def test_that_is_large_on_paper_only_is_refused_before_it_is_read(self, path):
        with path.open("wb") as file:
            file.truncate(2**40)
        assert "1,099,511,627,776 bytes" in refusal(read_file, path, 2**20)

    def test_that_is_larger_than_memory_is_refused(self, path):
        """A file with holes takes no room on a disk, and so none in an archive."""
        resource = pytest.importorskip("resource")
        with path.open("wb") as file:
            file.truncate(2**32)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, hard))
        try:
            refused = refusal(read_file, path, 2**33)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        assert refused == "record.json: its 4,294,967,296 bytes do not fit into memory"
        assert read_file(path, 2**33, 5) == bytes(5)

    def test_that_is_missing_is_named(self, path):
        assert refusal(read_file, path, 5) == "record.json: No such file or directory"

    def test_with_a_name_that_no_file_can_have_is_refused(self, path):
        assert "null" in refusal(read_file, path.with_name("a\0b"), 5)

    @posix
    @pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "other.json", "nothing"])
    def test_that_is_a_link_is_not_followed(self, path, target):
        path.with_name("other.json").write_text("{}")
        path.symlink_to(target)
        assert refusal(read_file, path, 2**20) == "record.json: a symbolic link, which is not followed"

    @posix
    def test_in_a_folder_that_is_a_link_is_not_read(self, path):
        path.write_text("{}")
        path.parent.with_name("linked").symlink_to(path.parent)
        assert refusal(read_file, path.parent.with_name("linked") / path.name, 5).startswith("linked: a symbolic link")

    @posix
    def test_that_is_a_pipe_is_not_waited_for(self, path):
        os.mkfifo(path)
        assert refusal(read_file, path, 5) == "record.json: not a file but a pipe"

    def test_that_is_a_folder_is_refused(self, path):
        path.mkdir()
        assert refusal(read_file, path, 5) == "record.json: not a file but a folder"

    @posix
    def test_that_is_a_device_is_refused(self):
        assert refusal(read_file, Path("/dev/zero"), 5) == "zero: not a file but a device"


class TestJson:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "truncated"),
            (b"[1]", "Expected `object`"),
            (b"null", "Expected `object`"),
            (b'{"a": NaN}', "malformed"),
            (b'{"a": [-Infinity]}', "malformed"),
            (b'{"a": 1e999}', "out of range"),
            (b'{"a": ["\\ud800"]}', "truncated"),
            (b'{"a": "\xff"}', "UTF-8"),
            (b"\xef\xbb\xbf{}", "malformed"),
            (b'{"a": ' * 40 + b"1" + b"}" * 40, "nested more than 32 deep"),
            (b'{"a": ' + b"[" * 100_000, "nested more than 32 deep"),
        ],
    )  # fmt: skip
    def test_that_no_file_of_ours_holds_is_refused(self, content, reason):
        line = refusal(decode_json, content, dict[str, Any], "record.json")
        assert line.startswith("record.json: ")
        assert reason in line

    def test_that_is_ours_is_read_whole(self, path):
        path.write_text('{"a": [1e-4, -1, true, null, {"b": "\\ud83d\\ude00 \u00e9"}]}', encoding="utf-8")
        assert read_json(path, 100, dict[str, Any]) == {"a": [1e-4, -1, True, None, {"b": "\U0001f600 \u00e9"}]}


class TestCsv:
    def test_gives_a_text_for_every_column(self, path):
        path.write_text("a,b\n1,x\n2,\n")
        assert read_csv(path, 100, ["a", "b"]) == [{"a": "1", "b": "x"}, {"a": "2", "b": ""}]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "its columns are not a,b"),
            (b"b,a\n1,2\n", "its columns are not a,b"),
            (b"a,b\n1\n", "shorter"),
            (b"a,b\n1,2,3\n", "longer"),
            (b'a,b\n1,"2\n', "unexpected end of data"),
            (b"a,b\n1,\xff\n", "utf-8"),
            (b"a,b\n1," + b"2" * 200_000 + b"\n", "field larger than"),
        ],
    )
    def test_of_another_shape_is_refused(self, path, content, reason):
        path.write_bytes(content)
        assert reason in refusal(read_csv, path, 2**20, ["a", "b"])


def test_folders_of_runs_are_listed_without_following_links(tmp_path):
    (tmp_path / "lr=1").mkdir()
    (tmp_path / "lr=2").mkdir()
    (tmp_path / "sweep.json").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "lr=1")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("nothing")
    assert run_folders(tmp_path) == (["lr=1", "lr=2"], ["broken", "linked", "loop"])
    assert run_folders(tmp_path / "nothing") == ([], [])


@posix
@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (os.mkfifo, "pipe"),
        (lambda path: path.symlink_to("/etc/passwd"), "symbolic link"),
        (lambda path: path.symlink_to("/tmp"), "symbolic link"),
        (lambda path: path.symlink_to("nothing"), "symbolic link"),
    ],
)
@pytest.mark.parametrize("place", ["summary.csv", "run/digits_sweep.log", "run/.hydra/config.yaml", "run/.hydra"])
def test_a_folder_with_anything_but_files_and_folders_is_refused(tmp_path, made, kind, place):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").touch()
    check_plain(tmp_path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    made(tmp_path / place)
    assert refusal(check_plain, tmp_path) == f"{place} is a {kind}: nothing is written beside it; remove it first"


@posix
def test_a_link_may_lie_in_a_folder_that_is_not_used(tmp_path):
    (tmp_path / ".jobs" / "1").mkdir(parents=True)
    (tmp_path / ".jobs" / "1" / "script").symlink_to("elsewhere")
    check_plain(tmp_path, unused=".jobs")
    (tmp_path / ".jobs").rename(tmp_path / "jobs")
    (tmp_path / ".jobs").symlink_to("jobs")
    assert refusal(check_plain, tmp_path, ".jobs").startswith(".jobs is a symbolic link")


@posix
def test_only_the_folder_itself_may_have_one_that_is_not_used(tmp_path):
    (tmp_path / "run" / ".jobs").mkdir(parents=True)
    (tmp_path / "run" / ".jobs" / "config.yaml").symlink_to("elsewhere")
    assert refusal(check_plain, tmp_path, ".jobs").startswith("run/.jobs/config.yaml is a symbolic link")


@posix
def test_a_file_that_has_another_name_elsewhere_is_refused_but_not_the_one_before_it(tmp_path):
    (tmp_path / "run").mkdir()
    for content in ("old", "new"):
        replace_file(tmp_path / "run" / "record.json", content, keep_previous=True)
    os.link(tmp_path / "run" / "record.json", tmp_path / "run" / ".record.json.link")
    check_plain(tmp_path)
    (tmp_path / "thesis.tex").write_text("mine")
    os.link(tmp_path / "thesis.tex", tmp_path / "run" / "losses.npy")
    assert "is a file with another name elsewhere: nothing is written beside it" in refusal(
        check_plain, tmp_path / "run"
    )


@pytest.mark.parametrize("depth", [33, 1500])
def test_folders_that_are_nested_deeper_than_any_of_ours_are_refused(tmp_path, monkeypatch, depth):
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    assert refusal(check_plain, tmp_path) == "a folder in it is nested more than 32 deep; remove it first"
    for _ in range(depth):
        os.chdir("..")
        Path("d").rmdir()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert refusal(check_plain, tmp_path / "nothing") == "nothing: No such file or directory"


def test_a_file_that_its_writer_has_just_renamed_is_no_obstacle(tmp_path, monkeypatch):
    for name in (".record.json.1a2b", "record.json"):
        (tmp_path / name).write_text("{}")
    look = Path.lstat

    def renamed_meanwhile(path):
        if path.name.startswith("."):
            raise FileNotFoundError(path)
        return look(path)

    monkeypatch.setattr(Path, "lstat", renamed_meanwhile)
    check_plain(tmp_path)
