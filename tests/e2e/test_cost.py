"""`python -m digits_sweep.cost`, and a study that answers for the machine that it measured."""

import json

import pytest

from digits_sweep.results.cost import read_cost
from tests.commands import Program
from tests.searches import CRITICAL

MODULE = "digits_sweep.cost"
SMALL = ("data=mnist_sample", "model.hidden_size=16")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("digits_sweep.search.cost.SECONDS", 0.2)


def test_eight_batch_sizes_are_measured_shown_and_written(program, quick):
    finished = program(*SMALL, module=MODULE)
    assert finished.returncode == 0, finished.stderr
    cost = read_cost(program.outputs / "cost.json")
    assert [step.batch_size for step in cost.steps] == [5, 20, 50, 100, 300, 1000, 2000, 4000]
    assert all(step.low <= step.seconds <= step.high for step in cost.steps)
    assert cost.network["model.hidden_size"] == "16"
    assert "throughput " in finished.stdout
    last = finished.stdout.splitlines()[-1]
    assert last.startswith("all 4,000 examples fit in a batch; throughput ")
    assert "; critical not known (no study here: python -m digits_sweep.critical_batch_size): take at most " in last
    assert cost.largest_batch_size == 4_000
    assert "critical.cost=outputs/cost.json answers for this machine" in finished.stdout


def test_batch_sizes_larger_than_the_data_are_left_out_unless_they_are_typed(program, quick):
    assert program("data=optdigits", "model.hidden_size=16", module=MODULE).returncode == 0
    sizes = [step.batch_size for step in read_cost(program.outputs / "cost.json").steps]
    assert sizes == [5, 20, 50, 100, 300, 1000]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("data.batch_size=5", "data.batch_size: give two or more"),
        ("resume=latest", "resume=latest: there is nothing to resume"),
        ("data.batch_size=5,5000", "data.batch_size=5000: "),
        ("model=nothing", "model=nothing"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(program, typed, says):
    refused = program(*SMALL, typed, module=MODULE)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(says)
    assert not program.outputs.exists()


def test_a_command_is_refused(program):
    refused = program("command=true", "evaluation.targets.train_error=[0.1]", module=MODULE)
    assert refused.stderr.startswith("command=...: its steps are not this program's")


def test_help_says_how_the_file_is_used_and_measures_nothing(program):
    assert "critical.cost=cost.json critical.price=2.5" in program("--help", module=MODULE).stdout
    assert not program.outputs.exists()


@pytest.mark.full
def test_a_study_answers_for_the_machine_of_a_file_in_seconds_and_money_and_says_where_the_answer_flips(
    tmp_path, quick
):
    program = Program(tmp_path)
    assert program(*SMALL, "data.batch_size=10,1000", module=MODULE).returncode == 0
    path = program.outputs / "cost.json"
    content = json.loads(path.read_text())
    # On that machine every step takes as long as every other one.
    content |= {"machine": "a vast one", "steps": [step | {"seconds": 1.0} for step in content["steps"]]}
    path.write_text(json.dumps(content))
    command = (
        *SMALL, "data.batch_size=10,50,200,1000", "evaluation.targets.train_error=[0.4]", "trainer.num_epochs=2",
        "evaluation.train_samples=300", "evaluation.test_samples=50", "evaluation.per_doubling=3", "critical.lr=8e-3",
        "critical.seeds=1", "critical.confirm=2", "critical.most_steps=4", "hydra/launcher=basic",
    )  # fmt: skip
    finished = program(*command, f"critical.cost={path}", "critical.price=36", module=CRITICAL)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "at 1 s a step of 10 up to 1 s a step of 1,000 on a vast one" in finished.stdout
    assert "about 1,000" in finished.stdout
    assert "in money, at 36 an hour" in finished.stdout
    assert "here." in finished.stdout
    (folder,) = (program.outputs / "critical_batch_size").iterdir()
    assert "on a vast one" in (folder / "index.html").read_text()
