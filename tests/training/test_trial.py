"""Which engine and how many threads: known for small networks, and the fastest that is tried for the others."""

from dataclasses import replace

import pytest
import torch

from digits_sweep.config.schema import EngineConfig
from digits_sweep.data.digits import Digits
from digits_sweep.training import trial
from digits_sweep.training.building import build_engine, model_on_meta, options_here, workload_of
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.trial import Option, fastest
from tests.workloads import needs_compiler, settings

LARGE = ("model.hidden_size=1024", "model.hidden_layers=4")
BOTH_ON_BOTH = [f"{name} on {number}" for name in ("native", "closed_form") for number in ("1 thread", "2 threads")]


def options(*overrides: str, cores: int = 4) -> list[str]:
    return [str(option) for option in options_here(settings("device=cpu", *overrides), cores)[0]]


@needs_compiler
@pytest.mark.parametrize("cores", [1, 2, 64])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("data.batch_size=100",),
        ("data.batch_size=5", "data.scale=standard"),
        ("engine=lesson", "data.batch_size=1000", *LARGE),
        ("engine=eager", "data.batch_size=100"),
    ],
)
def test_a_network_of_the_lessons_kind_trains_with_one_engine_on_one_thread_on_every_machine(overrides, cores):
    (option,) = options(*overrides, cores=cores)
    assert option.endswith(" on 1 thread")


@needs_compiler
@pytest.mark.parametrize(
    ("overrides", "cores", "expected"),
    [
        # Any number of threads gives the same bits with this engine.
        (("data.batch_size=1000",), 4, ["native on 1 thread", "native on 2 threads", "native on 4 threads"]),
        (("data.batch_size=1000",), 3, ["native on 1 thread", "native on 2 threads", "native on 3 threads"]),
        (("data.batch_size=1000", "num_threads=2"), 4, ["native on 2 threads"]),
        (("data.batch_size=20", "data.scale=standard"), 2, ["native on 1 thread", "native on 2 threads"]),
        (("engine=closed_form", "data.batch_size=20", "data.scale=standard"), 2, ["closed_form on 1 thread"]),
        (("data.batch_size=100", *LARGE), 2, BOTH_ON_BOTH),
        (("data.batch_size=1", *LARGE), 2, BOTH_ON_BOTH),
        (("engine=closed_form", "data.batch_size=100", *LARGE, "num_threads=3"), 2, ["closed_form on 3 threads"]),
        (("model=cnn",), 2, ["eager on 1 thread", "eager on 2 threads"]),
        (("model=cnn",), 1, ["eager on 1 thread"]),
    ],
)
def test_what_is_not_known_is_tried(overrides, cores, expected):
    assert options(*overrides, cores=cores) == expected


def noise(count: int = 400) -> Digits:
    images = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Digits.of("noise", images, torch.arange(count) % 10, images[:100], torch.arange(100) % 10)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ([5.0, 4.0, 3.0, 1.0], 3),
        ([5.0, 1.0, 2.0, 3.0], 1),
        # So little faster that the next measurement may say the opposite.
        ([5.0, 4.9, 4.8, 4.6], 0),
    ],
)
def test_the_fastest_is_taken_and_what_was_measured_is_said(seconds, best, monkeypatch):
    config = settings("device=cpu", "data.batch_size=100", "model.hidden_size=300")
    given = [Option("closed_form", 1), Option("closed_form", 2), Option("eager", 1), Option("eager", 2)]
    measured = iter([1e-6 * value for value in seconds] * trial.ROUNDS)
    monkeypatch.setattr(trial, "seconds_per_example", lambda *arguments: next(measured))
    option, reason = fastest(config, noise(), build_workload(config), given)
    assert option == given[best]
    expected = ", ".join(f"{each} {value:.3g}" for each, value in zip(given, seconds, strict=True))
    assert reason == f"the fastest tried at batch size 100, in microseconds an example: {expected}"


def build_workload(config):
    digits = noise()
    return workload_of(config, digits.train_images, digits.train_labels, model_on_meta(config), torch.device("cpu"))


@pytest.mark.parametrize("overrides", [("model=linear",), ("model.hidden_size=300",)])
def test_a_trial_changes_nothing_of_the_run(overrides, monkeypatch):
    config = settings("device=cpu", "data.batch_size=60", *overrides)
    monkeypatch.setattr("digits_sweep.training.building.usable_cores", lambda: 2)
    monkeypatch.setattr(trial, "TURN_SECONDS", 1e-3)
    built = build_engine(config, noise())
    named = build_engine(replace(config, engine=EngineConfig(built.name), num_threads=built.num_threads), noise())
    for engine in (built, named):
        engine.configure_threads()
    order = torch.arange(400)
    assert torch.equal(built.engine.train(order), named.engine.train(order))
    assert built.reason.startswith("the fastest tried at batch size 60")
    assert named.reason == "asked for"


def test_what_cannot_be_tried_leaves_the_likeliest(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no memory")

    monkeypatch.setattr(trial, "build_model", fails)
    config, given = settings("device=cpu"), [Option("closed_form", 1), Option("eager", 1)]
    reason = "the likeliest; nothing could be tried (RuntimeError)"
    assert fastest(config, noise(), build_workload(config), given) == (given[0], reason)


@pytest.mark.full
def test_every_engine_of_the_cpu_can_be_tried():
    config = settings("device=cpu", "data.batch_size=50", "model.hidden_size=20")
    names = [name for name, engine in ENGINES.items() if engine.refusal(build_workload(config)) is None]
    option, _ = fastest(config, noise(), build_workload(config), [Option(name, 1) for name in names])
    assert option.engine in names
