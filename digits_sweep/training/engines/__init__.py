"""The engines, and how one is chosen. A new engine is one file here, one line below and one YAML in `conf/engine`."""

from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.cuda_graph import CudaGraphEngine
from digits_sweep.training.engines.eager import EagerEngine
from digits_sweep.training.engines.lesson import LessonEngine
from digits_sweep.training.engines.protocol import Engine, Workload

ENGINES: dict[str, type[Engine]] = {
    "lesson": LessonEngine,
    "eager": EagerEngine,
    "closed_form": ClosedFormEngine,
    "cuda_graph": CudaGraphEngine,
}

# What `auto` tries, fastest first. The lesson's loop is a baseline: only a name takes it.
FASTEST_FIRST = ("cuda_graph", "closed_form", "eager")


class EngineRefused(Exception):
    """The engine that was asked for cannot train this workload. The text says why."""


def choose_engine(name: str, workload: Workload) -> tuple[str, str]:
    """The name of the engine to use, and why, in a few words.

    Raises `EngineRefused` where the engine that is asked for by name cannot train the workload.
    """
    if name != "auto":
        if refusal := ENGINES[name].refusal(workload):
            raise EngineRefused(f"engine={name}: {refusal}; engine=auto picks one that works")
        return name, "asked for"
    passed_over: list[str] = []
    for candidate in FASTEST_FIRST:
        refusal = ENGINES[candidate].refusal(workload)
        if refusal is None:
            return candidate, "; ".join(["the fastest that can train this", *passed_over])
        passed_over.append(f"not {candidate}: {refusal}")
    raise EngineRefused("engine=auto: " + "; ".join(passed_over))
