"""Folder names, whatever the values, and folders that belong to one sweep alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath, PureWindowsPath

from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from digits_sweep.config.compose import claim_sweep_folder, run_folder


def name(value, key="data.root"):
    config = OmegaConf.create({"hydra": {"runtime": {"choices": {"optimizer": "adam"}}}, "data": {"root": None}})
    OmegaConf.update(config, key, value)
    return run_folder(key, _root_=config)


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans()))
def test_any_value_gives_one_plain_path_component(value):
    found = name(str(value).replace("${", "") if isinstance(value, str) else value)
    assert PurePosixPath(found).parts == (found,)
    assert PureWindowsPath(found).parts == (found,)
    assert len(found.encode()) < 200
    assert found not in ("", ".", "..")


def test_a_plain_value_is_named_as_it_is():
    assert name(1e-6) == "root=1e-06"
    assert name("unit") == "root=unit"


def test_values_that_would_get_the_same_name_are_told_apart():
    assert name("a/b") != name("a:b")
    assert name("x" * 300) != name("x" * 301)


def test_a_group_is_named_by_its_choice():
    config = OmegaConf.create({"hydra": {"runtime": {"choices": {"optimizer": "adam_same_rates"}}}, "optimizer": {}})
    assert run_folder("optimizer", _root_=config) == "optimizer=adam_same_rates"


def test_sweeps_that_start_in_the_same_second_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim_sweep_folder(tmp_path), range(16)))
    assert len(set(folders)) == 16
    assert all(folder.is_dir() for folder in folders)
