"""What a step takes on another machine: a file that may come from anybody."""

import json
import os
from dataclasses import replace

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig, UnreadableRecord
from digits_sweep.results.critical import MachineCost, StepCost, network_of, read_cost, seconds_of_step, write_cost
from digits_sweep.search.settings import read_critical

TYPED = ["data=mnist_sample", "data.batch_size=5,100"]


def cost_of(seconds, config=None):
    steps = [
        StepCost(batch_size=size, seconds=each, low=each, high=each, engine="native", num_threads=1)
        for size, each in seconds.items()
    ]
    network = network_of(config or read_critical(TYPED).planned.settings)
    return MachineCost(machine="96 cores", torch_version="2.15.0", measured_at="", network=network, steps=steps)


def test_a_cost_is_read_as_it_was_written_and_is_that_of_a_study_of_the_same_network(tmp_path):
    path, cost = tmp_path / "cost.json", cost_of({5: 1e-4, 1000: 2e-3})
    write_cost(path, cost)
    assert read_cost(path) == cost
    read = read_critical([*TYPED, f"critical.cost={path}"]).cost
    assert (read.steps, read.machine) == ({5: 1e-4, 1000: 2e-3}, "96 cores")


@pytest.mark.parametrize(
    ("typed", "difference"),
    [
        ("model.hidden_size=32", "model.hidden_size was 128, is 32 here"),
        ("optimizer=sgd", "optimizer.name was adam, is sgd here"),
        ("data=optdigits", "data.name was mnist_sample, is optdigits here"),
    ],
)
def test_the_cost_of_another_network_is_refused(tmp_path, typed, difference):
    write_cost(tmp_path / "cost.json", cost_of({5: 1e-4, 1000: 2e-3}))
    with pytest.raises(InvalidConfig) as refused:
        read_critical([*TYPED, typed, f"critical.cost={tmp_path / 'cost.json'}"])
    assert str(refused.value).endswith(f"cost.json: is of other steps: {difference}")


@pytest.mark.parametrize("typed", ["device=cpu", "num_threads=2", "engine=eager", "seed=7"])
def test_what_belongs_to_the_machine_makes_no_other_network(typed):
    assert network_of(plan([typed]).settings) == network_of(plan([]).settings)


def broken(**changes):
    content = json.loads(json.dumps(cost_of({5: 1e-4, 1000: 2e-3}), default=vars))
    return json.dumps(content | changes)


STEP = {"batch_size": 5, "seconds": 1e-4, "low": 1e-4, "high": 1e-4, "engine": "native", "num_threads": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`, got `array`"),
        (broken(format=2), "its format 2 is not known here"),
        (broken(steps=[STEP]), "of length >= 2"),
        (broken(steps=[STEP, STEP]), "a batch size is there twice"),
        (broken(steps=[STEP, STEP | {"seconds": 0}]), "`$.steps[1].seconds`"),
        (broken(steps=[STEP, STEP | {"seconds": 1e9}]), "`$.steps[1].seconds`"),
        (broken(steps=[STEP, STEP | {"batch_size": -5}]), "`$.steps[1].batch_size`"),
        (broken(steps=[STEP] * 101), "of length <= 100"),
        (broken(machine="x" * 201), "of length <= 200"),
        (broken(network={"model.name": ["mlp"]}), "`$.network[...]`"),
        (" " * 70_000, "are more than the"),
    ],
)
def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "cost.json"
    path.write_text(content)
    with pytest.raises(UnreadableRecord) as refused:
        read_cost(path)
    assert says in str(refused.value)
    with pytest.raises(InvalidConfig, match=r"critical\.cost=") as refused:
        read_critical([*TYPED, f"critical.cost={path}"])
    assert "\n" not in str(refused.value)


def test_no_link_is_followed_and_no_pipe_is_waited_for(tmp_path):
    (tmp_path / "real.json").write_text(broken())
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("link.json", "pipe.json"):
        with pytest.raises(UnreadableRecord):
            read_cost(tmp_path / name)


# A step costs the same up to a batch of 100, and then in proportion.
BENT = {5: 1e-4, 100: 1e-4, 1000: 1e-3, 4000: 4e-3}


@pytest.mark.parametrize(
    ("size", "seconds"), [(5, 1e-4), (1, 1e-4), (30, 1e-4), (100, 1e-4), (200, 2e-4), (2000, 2e-3), (8000, 8e-3)]
)
def test_seconds_between_batch_sizes_follow_a_bend_that_no_line_has(size, seconds):
    assert float(seconds_of_step(BENT, size)) == pytest.approx(seconds)


def test_a_larger_batch_never_takes_less_whatever_was_measured():
    noisy = {5: 1.1e-4, 20: 1.0e-4, 100: 2e-4}
    values = seconds_of_step(noisy, [5, 10, 20, 50, 100])
    assert (values[1:] >= values[:-1]).all()


@pytest.mark.parametrize(
    ("seconds", "size"),
    [(BENT, 100), ({5: 1e-4, 100: 1e-4, 1000: 1e-4}, None), ({5: 1e-4, 100: 2e-3}, 5), ({5: 5e-4, 100: 1.05e-2}, 5)],
)
def test_throughput_is_flat_from_where_it_stays_within_a_tenth_of_the_highest(seconds, size):
    assert cost_of(dict(reversed(seconds.items()))).flat_from == size
    assert replace(cost_of(seconds), machine="another").flat_from == size
