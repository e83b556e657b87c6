"""What is stopped between any two changes of the disk, or in the middle of one, ends with the same bits.

The changes of a run, a search, a study and a `Recorder` are recorded, and every beginning of them is replayed into
folders of their own: as a killed process leaves it, with a change half done, and as a power cut may leave it, which
keeps any part of what was not flushed.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from digits_sweep.config.plan import plan
from digits_sweep.results.critical import STEPS, TUNING
from digits_sweep.results.record import RECORD_FILE, read_record
from digits_sweep.results.run import read_run
from digits_sweep.search import critical
from digits_sweep.search.settings import read_critical, read_tune
from digits_sweep.search.study import opened
from digits_sweep.shell import Screen
from digits_sweep.sweep.run import run
from tests.killing import assert_same_recorded, assert_same_run, losses, weights
from tests.recorded_loop import record
from tests.sweep.disk import disk_after, recorded_changes, write_files

SMALL = ["data=mnist_sample", "model.hidden_size=2"]
EVALUATED = [
    "evaluation=fine", "evaluation.every_examples=2000", "evaluation.train_samples=20", "evaluation.test_samples=20"
]  # fmt: skip
RUN = [*SMALL, *EVALUATED, "data.batch_size=1500", "optimizer.lr=1e-2", "trainer.num_epochs=2"]
SEARCH = [
    *SMALL, "data.batch_size=1500", "trainer.num_epochs=1", "tune.study=s", "tune.trials=2", "tune.seeds=1",
    "tune.confirm=1", "tune.objective=final_loss", "tune.prune=false",
]  # fmt: skip
STUDY = [
    *SMALL, "data.batch_size=1000,2000", "trainer.num_epochs=1", "evaluation.targets.train_error=[0.95]",
    "evaluation.train_samples=20", "evaluation.test_samples=20", "evaluation.per_doubling=1", "critical.seeds=1",
    "critical.confirm=1", "critical.most_steps=1",
]  # fmt: skip
WAYS = ["killed", "half done", "power cut"]


def do_run(folder: Path) -> None:
    assert run(_config(), folder / "run").record.status == "completed"


@cache
def _config():
    return plan(RUN).settings


def same_run(folder: Path, expected: Path) -> None:
    ours, theirs = folder / "run", expected / "run"
    assert losses(ours) == losses(theirs)
    assert np.array_equal(np.load(ours / "losses.npy"), np.load(theirs / "losses.npy"))
    for one, other in zip(weights(ours), weights(theirs), strict=True):
        assert one.equal(other)
    evaluations = [[row.train_loss for row in read_run(each).evaluations] for each in (ours, theirs)]
    assert evaluations[0] == evaluations[1]


def do_search(folder: Path) -> None:
    search = _search()
    with opened(folder / "s", folder, search.request.planned, Screen(quiet=True)) as study:
        search.conduct(study)


@cache
def _search():
    pytest.importorskip("optuna")
    from digits_sweep.search.tune import Tune

    return Tune(read_tune(SEARCH))


def same_search(folder: Path, expected: Path) -> None:
    for name in ("s", "s_confirmed"):
        same_runs(folder / name, expected / name)


def same_runs(folder: Path, expected: Path) -> None:
    names = [path.parent.name for path in expected.glob(f"*/{RECORD_FILE}")]
    assert sorted(path.parent.name for path in folder.glob(f"*/{RECORD_FILE}")) == sorted(names)
    for name in names:
        assert_same_run(folder / name, expected / name)


def do_study(folder: Path) -> None:
    request, found = _study(), _studies(folder)
    search = critical.Critical(replace(request, resume=str(found[0]) if found else None))
    with pytest.MonkeyPatch.context() as patch, opened(
        search.folder, folder, request.planned, Screen(quiet=True)
    ) as study:  # fmt: skip
        patch.setattr(critical, "write_page", lambda path, studies: None)
        search.conduct(study)


@cache
def _study():
    return read_critical(STUDY)


def _studies(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob("*/study.json")]


def same_study(folder: Path, expected: Path) -> None:
    ours, theirs = _studies(folder)[0], _studies(expected)[0]
    same_runs(ours, theirs)
    for name in (TUNING, STEPS):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def do_recorder(folder: Path) -> None:
    for seed in range(2):
        record(str(folder / "sweeps" / "mine"), seed, epochs=2, seconds=0)


def same_recorder(folder: Path, expected: Path) -> None:
    assert_same_recorded(folder / "sweeps" / "mine", expected / "sweeps" / "mine")


@dataclass
class Undisturbed:
    """Something that nothing stopped: its folder, its changes of the disk, how it goes on, and how it is compared."""

    folder: Path
    changes: list
    goes_on: Callable[[Path], None]
    compare: Callable[[Path, Path], None]


THINGS = {
    "run": (do_run, same_run),
    "search": (do_search, same_search),
    "study": (do_study, same_study),
    "Recorder": (do_recorder, same_recorder),
}


@pytest.fixture(scope="module")
def undisturbed(request, tmp_path_factory) -> Undisturbed:
    goes_on, compare = THINGS[request.param]
    folder = tmp_path_factory.mktemp("undisturbed")
    with recorded_changes() as changes:
        goes_on(folder)
    # Others are those of the user's cache; and whoever owned a folder would be this very process, which lives.
    changes = [change for change in changes if change.arguments[0].is_relative_to(folder)]
    changes = [change for change in changes if "owner.json" not in change.arguments[0].name]
    return Undisturbed(folder, changes, goes_on, compare)


def states(changes, count: int, way: str, most: int) -> list[dict[Path, bytes]]:
    """What may be on the disk after `count` changes, stopped this way."""
    if way == "power cut":
        return disk_after(changes, count).after_power_cuts(most, random.Random(count))
    disk = disk_after(changes, count, 0.5 if way == "half done" else 1.0)
    return [{path: file.content for path, file in disk.names.items()}]


def ends_with_the_same_bits(undisturbed: Undisturbed, tmp_path: Path, count: int, way: str, most: int) -> None:
    for number, state in enumerate(states(undisturbed.changes, count, way, most)):
        folder = tmp_path / f"{count}_{way}_{number}"
        write_files(state, folder, undisturbed.folder)
        for ended in _completed(folder):
            # Whatever makes a record say that is on the disk before it.
            assert read_run(ended).row == read_run(undisturbed.folder / ended.relative_to(folder)).row
        undisturbed.goes_on(folder)
        undisturbed.compare(folder, undisturbed.folder)
        assert not list(folder.rglob("set_aside*"))


def _completed(folder: Path) -> Iterator[Path]:
    for path in folder.rglob(RECORD_FILE):
        if read_record(path.parent).status == "completed":
            yield path.parent


def of_all(*marked: str):
    """All things; those that take long are left to `make test-all`."""
    return pytest.mark.parametrize(
        "undisturbed",
        [pytest.param(name, marks=pytest.mark.full if name in marked else ()) for name in THINGS],
        indirect=True,
    )


@of_all("search", "study")
@pytest.mark.parametrize("way", WAYS)
def test_stopped_at_some_moments_it_ends_with_the_same_bits(undisturbed, tmp_path, way):
    moments = range(len(undisturbed.changes) + 1)
    for count in sorted(random.Random(way).sample(moments, 5)):
        ends_with_the_same_bits(undisturbed, tmp_path, count, way, most=2)


@pytest.mark.torture
@of_all()
@pytest.mark.parametrize("way", WAYS)
def test_stopped_at_any_moment_it_ends_with_the_same_bits(undisturbed, tmp_path, way):
    most = 40 if undisturbed.goes_on is do_run else 6
    for count in range(len(undisturbed.changes) + 1):
        ends_with_the_same_bits(undisturbed, tmp_path, count, way, most)
