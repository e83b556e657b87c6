"""Planning in a process that uses Hydra for itself: a notebook, or a larger program."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase

from digits_sweep.config import compose as own_hydra
from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig


@pytest.fixture
def theirs(tmp_path):
    """Hydra, initialized with the configuration of another program; at the end it must be as it was."""
    (tmp_path / "config.yaml").write_text("theirs: 1\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        hydra = GlobalHydra.instance().hydra
        yield
        assert GlobalHydra.instance().hydra is hydra
        assert str(VersionBase.instance().version_base) == "1.2"
        assert compose("config") == {"theirs": 1}


def test_a_hydra_that_is_initialized_already_is_put_back(theirs):
    assert plan(["data.batch_size=7"]).settings.data.batch_size == 7


@pytest.mark.parametrize("override", ["data.batch_size=0", "nonsense", "model=mlpp", "--config-dir=nowhere"])
def test_it_is_put_back_after_a_mistake_too(theirs, override):
    with pytest.raises(InvalidConfig):
        plan([override])


def test_it_is_put_back_if_planning_is_stopped_before_it_begins(theirs, monkeypatch):
    def stopped(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(own_hydra, "initialize_config_dir", stopped)
    with pytest.raises(KeyboardInterrupt):
        plan([])


@pytest.mark.full
def test_threads_plan_one_after_the_other(theirs):
    with ThreadPoolExecutor(4) as threads:
        sizes = list(threads.map(lambda size: plan([f"data.batch_size={size}"]).settings.data.batch_size, range(1, 9)))
    assert sizes == list(range(1, 9))


def test_a_process_that_has_not_used_hydra_before_launches_in_its_own_folder_and_without_a_warning(
    program, monkeypatch
):
    monkeypatch.setattr(VersionBase.instance(), "version_base", version._UNSPECIFIED_)
    finished = program("data=mnist_sample", "data.batch_size=500", "trainer.num_epochs=1")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert str(VersionBase.instance().version_base) == "1.3"
