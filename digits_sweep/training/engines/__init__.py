"""The engines, and how one is chosen. A new one is a file here, a line in `ENGINES` and a YAML in `conf/engine`."""

from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.cuda_graph import CudaGraphEngine
from digits_sweep.training.engines.cuda_kernel import CudaKernelEngine
from digits_sweep.training.engines.eager import EagerEngine, LessonEngine
from digits_sweep.training.engines.native import NativeEngine
from digits_sweep.training.engines.protocol import Engine, Workload

# In the order in which `auto` tries them, the fastest first. It takes only those that are `automatic`.
ENGINES: dict[str, type[Engine]] = {
    "cuda_kernel": CudaKernelEngine,
    "cuda_graph": CudaGraphEngine,
    "native": NativeEngine,
    "closed_form": ClosedFormEngine,
    "eager": EagerEngine,
    "lesson": LessonEngine,
}
# How the refusal of an engine that was asked for by name ends.
AUTO_PICKS = "; engine=auto picks one that works"


def choose_engine(name: str, workload: Workload) -> tuple[str, str]:
    """Return the name of the engine to train `workload` with, and why, in a few words.

    Raises `EngineRefused` if the engine `name` cannot train it, and KeyError if there is no such engine.
    """
    if name != "auto":
        if reason := ENGINES[name].refusal(workload):
            raise EngineRefused(f"engine={name}: {reason}{AUTO_PICKS}")
        return name, "asked for"
    passed_over: list[str] = []
    for candidate, engine in ENGINES.items():
        if not engine.automatic:
            continue
        reason = engine.refusal(workload)
        if reason is None:
            return candidate, "; ".join(["the fastest that can train this", *passed_over])
        passed_over.append(f"not {candidate}: {reason}")
    raise EngineRefused("engine=auto: " + "; ".join(passed_over))
