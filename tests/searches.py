"""A quick search, and what its study holds."""

import sqlite3
from contextlib import closing
from pathlib import Path

QUICK = (
    "data=mnist_sample",
    "data.batch_size=100",
    "trainer.num_epochs=4",
    "trainer.loss_threshold=2.2",
    "tune.study=s",
    "tune.seeds=1",
    "tune.confirm=0",
)


def trials(folder: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(folder / "outputs" / "tune" / "s.db")) as store:
        return store.execute("select number, state from trials order by number").fetchall()


def of_state(folder: Path, *states: str) -> int:
    return sum(state in states for _, state in trials(folder))
