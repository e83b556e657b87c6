"""What `auto` stands for: one answer for all runs of a sweep, in their planned records, shared out among workers."""

from dataclasses import asdict, replace

import pytest
import torch

from digits_sweep.config.plan import Plan, plan
from digits_sweep.errors import DeviceUnavailable
from digits_sweep.results.record import Record, read_record
from digits_sweep.results.sweep import DatasetChoice, Manifest
from digits_sweep.sweep import fitting, preflight
from digits_sweep.sweep.fitting import as_settled
from digits_sweep.training import trial
from digits_sweep.training.device import gpus_here

LARGE = ("data=mnist_sample", "model.hidden_size=300", "device=cpu", "data.batch_size=100,20", "optimizer.lr=1e-3,1e-4")
MANIFEST = Manifest([], [], [DatasetChoice("mnist_sample", "mnist_sample", "", None)])


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Four cores, on which more threads are always faster, and what was tried in a test, by batch size."""
    tried: list[int] = []

    def measured(config, digits, workload, options, rounds=0):
        tried.append(config.data.batch_size)
        return {option: 1 / option.num_threads for option in options}

    monkeypatch.setattr(trial, "measured", measured)
    monkeypatch.setattr("digits_sweep.sweep.fitting.usable_cores", lambda: 4)
    monkeypatch.setattr("digits_sweep.sweep.run.usable_cores", lambda: 4)
    monkeypatch.setattr(fitting, "_known", {})
    return tried


def settled(planned: Plan):
    return fitting.settle(planned, MANIFEST, lambda line: None)


def test_runs_that_are_alike_are_tried_once_at_their_largest_batch_size(machine):
    planned = plan(["-m", *LARGE])
    answers = settled(planned)
    assert machine == [100]
    assert answers.keys() == {run.folder for run in planned.runs}
    assert {each.num_threads for each in answers.values()} == {4}
    assert len({each.engine for each in answers.values()}) == 1
    assert settled(planned) == answers
    assert machine == [100]


def test_a_search_that_is_resumed_trains_its_next_runs_on_what_the_others_had(machine):
    first, second = plan(["-m", *LARGE]), plan(["-m", *LARGE, "seed=7"])
    record = Record(0, folder="a", config=asdict(first.runs[0].config), engine="closed_form", num_threads=3)
    others = [replace(record, config={}), replace(record, engine="own loop"), replace(record, num_threads=None)]
    answers = fitting.settle(second, MANIFEST, lambda line: None, [*others, record])
    assert {(each.engine, each.num_threads) for each in answers.values()} == {("closed_form", 3)}
    assert machine == []


@pytest.mark.parametrize(("jobs", "threads"), [(1, 4), (2, 2), (3, 1), (4, 1), (-1, 1)])
def test_workers_side_by_side_share_the_cores(jobs, threads):
    planned = plan(["-m", *LARGE, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"])
    assert {each.num_threads for each in settled(planned).values()} == {threads}


def test_on_a_cluster_the_job_settles_it():
    assert settled(plan(["-m", *LARGE, "hydra/launcher=slurm"])) == {}


def see(monkeypatch, answers: list[str | None]) -> None:
    monkeypatch.setattr(fitting, "gpus_here", lambda: answers)


@pytest.mark.parametrize(
    ("answers", "device", "dealt"),
    [
        ([None, None], "auto", ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        ([None, "full", None], "auto", ["cuda:0", "cuda:2", "cuda:0", "cuda:2"]),
        ([None], "auto", [None] * 4),
        ([], "auto", [None] * 4),
        ([None, None], "cuda:1", [None] * 4),
    ],
)
def test_several_gpus_are_dealt_out_to_the_runs(answers, device, dealt, monkeypatch):
    see(monkeypatch, answers)
    monkeypatch.setattr(fitting, "_tried", lambda *arguments: fitting.Settled())
    typed = [each for each in LARGE if not each.startswith("device")]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert [each.device for each in settled(plan(["-m", *typed, f"device={device}", *launcher])).values()] == dealt
    one_by_one = settled(plan(["-m", *typed, f"device={device}"]))
    assert {each.device for each in one_by_one.values()} == {None}


def test_a_run_takes_what_was_settled_unless_it_was_typed(monkeypatch):
    config = plan(["data=mnist_sample"]).settings
    record = Record(0, engine="closed_form", num_threads=3, device="cuda:1")
    monkeypatch.setattr("digits_sweep.sweep.fitting.resolve_device", torch.device)
    found = as_settled(config, record)
    assert (found.engine.name, found.num_threads, found.device) == ("closed_form", 3, "cuda:1")
    typed = plan(["data=mnist_sample", "engine=eager", "num_threads=2", "device=cpu"]).settings
    assert as_settled(typed, record) == typed

    def missing(name):
        raise DeviceUnavailable(name)

    monkeypatch.setattr("digits_sweep.sweep.fitting.resolve_device", missing)
    assert as_settled(config, record).device == "auto"


def test_all_runs_of_a_sweep_train_with_it_and_a_resume_keeps_it(program, machine, monkeypatch):
    typed = ["-m", *LARGE[:-1], "trainer.num_epochs=1"]
    finished = program(*typed)
    assert finished.returncode == 0, finished.stdout
    assert "the fastest tried at batch size 100, in microseconds an example: " in finished.stdout
    records = [read_record(path.parent) for path in program.sweep().glob("*/record.json")]
    assert {record.num_threads for record in records} == {4}
    assert all(record.engine_reason.startswith("the fastest tried at batch size 100") for record in records)
    monkeypatch.setattr("digits_sweep.sweep.fitting.usable_cores", lambda: 1)
    assert program("resume=latest", "trainer.num_epochs=2").returncode == 0
    after = [read_record(path.parent) for path in program.sweep().glob("*/record.json")]
    assert [(each.engine, each.num_threads, each.engine_reason) for each in after] == [
        (each.engine, each.num_threads, each.engine_reason) for each in records
    ]
    assert machine == [100]


@pytest.mark.parametrize(
    ("typed", "elsewhere", "here"),
    [
        (["device=cuda"], preflight.SETTLED_THERE, "device=cuda: PyTorch sees 0 CUDA devices here"),
        (["device=cuda:3"], preflight.SETTLED_THERE, "device=cuda:3: PyTorch sees 0"),
        (["engine=cuda_graph"], preflight.SETTLED_THERE, "engine=cuda_graph: it needs an NVIDIA GPU"),
        ([], preflight.SETTLED_THERE, None),
        (["device=cpu"], "native", None),
    ],
)
def test_a_node_without_a_gpu_plans_runs_on_gpus(typed, elsewhere, here, monkeypatch, program):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpus_here.cache_clear()
    command = ["-m", "data=mnist_sample", "data.batch_size=20,5", *typed]
    answers = preflight.engines(plan([*command, "hydra/launcher=slurm"])).values()
    assert {name.replace("closed_form", "native") for name in answers} == {elsewhere}
    refused = program(*command, "dry_run=true")
    assert refused.returncode == (1 if here else 0)
    assert refused.stderr.startswith(here or "")


def test_what_no_machine_can_train_is_refused_for_a_cluster_too(program):
    command = ["-m", "data.batch_size=20,5", "engine=native", "optimizer=muon", "hydra/launcher=slurm", "dry_run=true"]
    assert program("data=mnist_sample", *command).stderr.startswith("engine=native: ")
