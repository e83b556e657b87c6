"""`python -m digits_sweep.critical_batch_size`, from the command line to its tables."""

import json
import shutil

import pandas as pd
import pytest

from digits_sweep.results.critical import read_answers
from digits_sweep.results.sweep import load_sweep
from digits_sweep.training.evaluation import Evaluator
from tests.commands import Program
from tests.searches import COST, CRITICAL, STUDY

MODULE, QUICK = CRITICAL, STUDY


def folder_of(program: Program):
    (folder,) = (program.outputs / "critical_batch_size").iterdir()
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Program:
    program = Program(tmp_path_factory.mktemp("study"))
    program.finished = program(*QUICK, module=MODULE)
    assert program.finished.returncode == 0, program.finished.stdout + program.finished.stderr
    return program


@pytest.fixture
def copied(study, tmp_path) -> Program:
    return study.copy(tmp_path)


def steps(program: Program) -> bytes:
    return (folder_of(program) / "steps_to_target.csv").read_bytes()


def test_every_batch_size_has_a_rate_and_its_steps_on_fresh_seeds(study):
    table = pd.read_csv(folder_of(study) / "steps_to_target.csv")
    names = "target threshold batch_size lr seeds median low high tuned_median real_batch_size"
    assert list(table) == names.split()
    assert list(table["batch_size"]) == [100, 400]
    assert list(table["seeds"]) == [2, 2]
    assert (table["low"] <= table["median"]).all()
    assert (table["median"] <= table["high"]).all()


def test_every_trial_is_a_row_and_a_recorded_run_that_was_made_once(study):
    tuning = pd.read_csv(folder_of(study) / "tuning.csv")
    assert list(tuning) == ["batch_size", "lr", "seed", "target", "threshold", "reached", "iterations", "examples"]
    assert set(tuning["seed"]) == {42}
    assert not tuning.duplicated(["batch_size", "lr", "seed"]).any()
    runs = load_sweep(folder_of(study))
    assert not runs.duplicated(["batch_size", "lr", "seed"]).any()
    assert set(runs["status"]) == {"completed"}
    assert len(runs[runs["seed"] == 42]) == len(tuning)
    assert set(runs["seed"]) == {42, 43, 44}
    for name in ("summary.csv", "targets.csv"):
        assert set(pd.read_csv(folder_of(study) / name)["run_dir"]) == set(runs["run_dir"])


def test_a_wave_is_announced_with_its_batch_sizes_rates_and_seeds(study):
    lines = [line for line in study.finished.stdout.splitlines() if line.startswith("wave ")]
    assert lines[0] == "wave 1, batch size 100 at lr 0.008 (1 seed); 400 at lr 0.016 (1 seed): 2 runs"
    assert "until the end" in lines[1]


def test_what_two_batch_sizes_cannot_tell_is_said(study):
    said = (
        "train error < 0.5: the critical batch size cannot be told (2 batch sizes reached the goal, and a fit needs "
        "4). A rough guess is the gradient noise scale on the way there: "
    )
    assert said in study.finished.stdout
    assert "Which batch size to use cannot be told" in study.finished.stdout
    assert said.replace("<", "&lt;") in (folder_of(study) / "index.html").read_text()
    (answer,) = read_answers(folder_of(study))
    assert (answer.target, answer.threshold, answer.b_crit) == ("train_error", 0.5, None)
    # What a busy machine measures may fit a step that costs nothing beside its examples, or the other way around.
    assert answer.seconds_per_iteration + answer.seconds_per_example > 0
    assert 0 < answer.noise_scale_low <= answer.noise_scale_at_target <= answer.noise_scale_high


def test_a_study_that_is_done_is_resumed_without_training_and_with_another_configuration_not_at_all(copied):
    before = steps(copied)
    finished = copied.completes(*QUICK, "resume=latest", module=MODULE)
    assert "wave" not in finished.stdout
    assert steps(copied) == before
    refused = copied(*QUICK, "model.hidden_size=32", "resume=latest", module=MODULE)
    assert refused.returncode == 1
    assert "model.hidden_size was 16, is now 32" in refused.stderr


def test_a_run_that_is_gone_is_made_again(copied):
    shutil.rmtree(next(folder_of(copied).glob("batch_size*")))
    finished = copied.completes(*QUICK, "resume=latest", module=MODULE)
    assert "wave 1" in finished.stdout
    assert "1 run" in finished.stdout


@pytest.mark.full
def test_four_batch_sizes_give_an_answer_that_is_checked_and_other_machines_get_their_own(program, monkeypatch):
    command = (*QUICK[:1], "data.batch_size=10,50,200,1000", *QUICK[2:], "evaluation.targets.train_error=[0.4]")
    finished = program.completes(*command, "critical.most_steps=4", module=MODULE)
    (answer,) = read_answers(folder_of(program))
    assert 10 < answer.b_crit < 1000
    assert answer.check.batch_size in (20, 30, 70, 100, 300, 500, 700)
    assert "Use about " in finished.stdout
    assert f"batch size {answer.check.batch_size}, which is in no fit, takes " in finished.stdout
    table = pd.read_csv(folder_of(program) / "steps_to_target.csv")
    assert list(table["batch_size"]) == [10, 50, 200, 1000]
    elsewhere = ("resume=latest", "critical.cost={iteration:1ms,example:1us}")
    again = program(*command, "critical.most_steps=4", *elsewhere, module=MODULE)
    assert "% more time at these costs, for" in again.stdout
    assert "at 1 ms an iteration and 1 \u00b5s an example" in again.stdout
    assert "wave" not in again.stdout
    (given,) = read_answers(folder_of(program))
    assert (given.b_crit, given.cost_is_given) == (answer.b_crit, True)
    # On a third machine every step takes as long as every other one.
    monkeypatch.setattr("digits_sweep.search.cost.SECONDS", 0.2)
    program.completes(*QUICK[:1], "data.batch_size=10,1000", QUICK[2], module=COST)
    path = program.outputs / "cost.json"
    content = json.loads(path.read_text())
    content |= {"machine": "a vast one", "steps": [step | {"seconds": 1.0} for step in content["steps"]]}
    path.write_text(json.dumps(content))
    vast = ("resume=latest", f"critical.cost={path}", "critical.price=36")
    answered = program.completes(*command, "critical.most_steps=4", *vast, module=MODULE)
    assert "at 1 s a step of 10 up to 1 s a step of 1,000 on a vast one" in answered.stdout
    assert "about 1,000" in answered.stdout
    assert "in money, at 36 an hour" in answered.stdout
    assert "here." in answered.stdout
    assert "on a vast one" in (folder_of(program) / "index.html").read_text()


FEW = (*QUICK, "data.batch_size=400", "trainer.num_epochs=1", "critical.confirm=1")


@pytest.mark.full
@pytest.mark.parametrize(
    "typed",
    [("evaluation.targets.train_error=[0.001]",), ("optimizer=sgd", "critical.lr=1e30")],
    ids=["never", "diverges"],
)
def test_a_goal_that_no_rate_reaches_is_a_result(program, typed):
    finished = program.completes(
        *(each for each in FEW if "train_error" not in each or len(typed) > 1), *typed, module=MODULE
    )
    assert "not reached at any rate" in finished.stdout
    (row,) = (row for _, row in pd.read_csv(folder_of(program) / "steps_to_target.csv").iterrows())
    assert (row["median"], row["seeds"]) == (float("inf"), 0)
    assert not pd.read_csv(folder_of(program) / "tuning.csv")["reached"].any()


@pytest.mark.full
def test_a_run_that_fails_is_made_again_then_left_out_and_said(program, monkeypatch):
    measured = Evaluator.measure

    def measure(self, *arguments):
        if self.measures_noise:
            raise OSError("the disk is full")
        return measured(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "measure", measure)
        finished = program(*STUDY[:1], "data.batch_size=100", *STUDY[2:], "critical.confirm=4", module=MODULE)
    assert finished.returncode == 0, finished.stderr
    assert "1 failed run made again" in finished.stdout
    assert "_seed=43 failed twice and is left out, resume=latest makes it again: OSError" in finished.stdout
    (row,) = (row for _, row in pd.read_csv(folder_of(program) / "steps_to_target.csv").iterrows())
    assert row["seeds"] == 3
    assert "Fresh seeds that failed and count nowhere: 1." in finished.stdout
    again = program.completes(
        *STUDY[:1], "data.batch_size=100", *STUDY[2:], "critical.confirm=4", "resume=latest", module=MODULE
    )
    assert "count nowhere" not in again.stdout
    assert pd.read_csv(folder_of(program) / "steps_to_target.csv")["seeds"].tolist() == [4]


def test_a_study_of_which_every_run_fails_ends_with_the_reason(program, monkeypatch):
    monkeypatch.setattr("digits_sweep.sweep.run.build_engine", lambda *arguments, **options: 1 / 0)
    finished = program(*FEW, module=MODULE)
    assert finished.returncode == 1
    assert "every run failed; " in finished.stderr
    assert "ZeroDivisionError" in finished.stderr


@pytest.mark.full
def test_branches_of_a_run_may_be_asked_for_later(copied):
    before = len(list(folder_of(copied).glob("*/record.json")))
    asked = (*QUICK, "resume=latest", "critical.branch=true", "critical.branch_examples=600")
    finished = copied.completes(*asked, module=MODULE)
    assert len(list(folder_of(copied).glob("*/record.json"))) == before
    table = pd.read_csv(folder_of(copied) / "branches.csv")
    assert list(table["batch_size"]) == [100, 200, 400]
    assert list(table["lr"] / table["lr"][0]) == pytest.approx([1, 2**0.5, 2])
    assert set(table["examples"]) == {600}
    assert "Branched from the run at batch size 100, with the square-root rule, up to batch size" in finished.stdout
    assert "Branches of one run" in (folder_of(copied) / "index.html").read_text()
    copied.completes(*asked, module=MODULE)
    pd.testing.assert_frame_equal(pd.read_csv(folder_of(copied) / "branches.csv"), table)


# Its error falls with the square root of the rate, as far as a batch of 50 goes.
PROGRAM = """
from digits_sweep import Recorder

recorder = Recorder(train_samples=1_000)
with recorder:
    for _ in range(100):
        with recorder.epoch():
            for _ in range(1_000 // recorder.batch_size):
                if recorder.is_due:
                    gain = recorder.iterations * min(recorder.batch_size, 50) * min(recorder.lr, 0.02) ** 0.5
                    recorder.evaluated(test_error=0.5, train_error=1 / (1 + gain / 10))
                recorder.step(1.0)
"""


@pytest.mark.full
def test_a_command_is_searched_stopped_at_its_goal_and_resumed_without_a_run(tmp_path):
    program = Program(tmp_path)
    (tmp_path / "train.py").write_text(PROGRAM)
    typed = [
        "command=python train.py", "data.batch_size=25", "critical.seeds=1", "critical.confirm=1",
        "critical.lr=0.01", "critical.most_steps=2", "evaluation.targets.train_error=[0.3]",
    ]  # fmt: skip
    program.completes(*typed, module=MODULE)
    runs = load_sweep(folder_of(program))
    assert set(runs["status"]) == {"completed"}
    # A run at a fourth of the best rate is given up; the others are stopped with their goal.
    assert set(runs["ended"]) <= {"all targets reached", "trainer.max_examples reached"}
    assert "all targets reached" in set(runs["ended"])
    again = program.completes(*typed, "resume=latest", module=MODULE)
    assert "wave" not in again.stdout
    assert len(load_sweep(folder_of(program))) == len(runs)


@pytest.mark.full
def test_the_best_of_a_pilot_run_is_one_more_goal_and_stays_so_when_the_study_is_resumed(program):
    asked = (*QUICK, "evaluation.targets.train_error=[0.7]", "critical.pilot_examples=1000")
    finished = program.completes(*asked, module=MODULE)
    assert "a pilot run of 1,000 examples at batch size 100: the best that it reaches is a goal too" in finished.stdout
    thresholds = [answer.threshold for answer in read_answers(folder_of(program))]
    assert len(thresholds) == 2
    assert thresholds[1] < thresholds[0] == 0.7
    again = program(*asked, "resume=latest", module=MODULE)
    assert "wave" not in again.stdout
    assert [answer.threshold for answer in read_answers(folder_of(program))] == thresholds


WHICH = "digits_sweep.which_batch_size"
WINE = (
    "data=own", "data.target=sklearn.datasets:load_wine", "model.hidden_size=16", "data.scale=raw", "optimizer=adamw",
    "critical.pilot_examples=600", "critical.most_steps=1", "critical.lr=8e-3",
)  # fmt: skip


@pytest.mark.full
def test_other_data_need_no_goal_and_no_batch_size_and_a_full_study_goes_on_from_the_quick_ones_runs(program):
    finished = program.completes(*WINE, module=WHICH)
    (answer,) = read_answers(folder_of(program))
    assert f"the goal by the pilot runs: train error < {answer.threshold}" in finished.stdout
    assert "within a factor of" in finished.stdout
    assert "95 %" not in finished.stdout
    assert len(set(load_sweep(folder_of(program))["batch_size"])) == 3
    losses = {path: path.read_bytes() for path in folder_of(program).glob("batch_size=*/losses.npy")}
    full = ("critical.quick=false", "critical.seeds=1", "critical.confirm=1", "resume=latest")
    again = program.completes(*WINE, *full, module=WHICH)
    assert all(path.read_bytes() == before for path, before in losses.items())
    assert not any(f"{path.parent.name}  (" in again.stdout for path in losses)
    assert [each.threshold for each in read_answers(folder_of(program))] == [answer.threshold]
    table = pd.read_csv(folder_of(program) / "steps_to_target.csv")
    assert list(table["batch_size"]) == [2, 4, 8, 20, 30, 70]
    done = program.completes(*WINE, *full, module=WHICH)
    assert "wave" not in done.stdout


@pytest.mark.full
def test_pilot_runs_that_learn_nothing_are_said_in_a_line(program, tmp_path):
    (tmp_path / "noise.py").write_text(
        "import torch\ndef noise():\n    return torch.zeros(40, 3), torch.arange(40) % 2\n"
    )
    typed = ("data=own", "data.target=noise:noise", "critical.pilot_examples=200")
    refused = program(*typed, module=MODULE)
    assert refused.returncode == 1
    assert refused.stderr.startswith("the pilot runs learn nothing, so that no goal follows from them: type one")
    assert refused.stderr.count("\n") == 1
