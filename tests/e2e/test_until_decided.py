"""`seeds=until_decided` as a user types it: with a launcher of several workers, resumed, and with more seeds."""

from importlib.util import find_spec

import pandas as pd
import pytest

from digits_sweep.results.sweep import load_sweep

# At 2.3 every run passes at once: which batch size is sooner is a matter of the seed.
SHORT = (
    *("-m", "data=mnist_sample", "data.batch_size=500,300", "scaling=none", "trainer.num_epochs=1"),
    *("trainer.loss_threshold=2.29", "seeds=until_decided", "quiet=true"),
)


def seeds(program) -> dict[int, list[int]]:
    (sweep,) = (program.outputs / "sweeps").iterdir()
    table: pd.DataFrame = load_sweep(sweep)
    return {int(size): sorted(own["seed"]) for size, own in table.groupby("batch_size")}


@pytest.mark.full
@pytest.mark.skipif(find_spec("hydra_plugins") is None, reason="needs the extra joblib")
def test_seeds_are_added_by_every_launcher_and_by_a_resume_with_more_of_them(program):
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    first = program.completes(*SHORT, "max_seeds=6", *joblib)
    assert seeds(program) == {300: [*range(42, 48)], 500: [*range(42, 48)]}
    assert "eeds" in first.stdout.partition("table ")[0]
    # Decided or not with six seeds, the same command has nothing left to do.
    program.completes("resume=latest")
    assert len(seeds(program)[300]) == 6
    program.completes(*SHORT, "max_seeds=8", "resume=latest")
    assert all(count in (6, 7, 8) for count in map(len, seeds(program).values()))
