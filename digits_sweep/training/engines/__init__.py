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


def engines_for(name: str, workload: Workload) -> tuple[list[str], str]:
    """Return the engines that can train `workload`, the one first that is the fastest for most, and why in a few words.

    That is the engine `name` alone if it is not `auto`. Raises `EngineRefused` if none can train it, and KeyError if
    there is no such engine.
    """
    if name != "auto":
        if reason := ENGINES[name].refusal(workload):
            raise EngineRefused(f"engine={name}: {reason}{AUTO_PICKS}")
        return [name], "asked for"
    able: list[str] = []
    passed_over: list[str] = []
    for candidate, engine in ENGINES.items():
        if not engine.automatic:
            continue
        if (reason := engine.refusal(workload)) is None:
            able.append(candidate)
        elif not able:
            passed_over.append(f"not {candidate}: {reason}")
    if not able:
        raise EngineRefused("engine=auto: " + "; ".join(passed_over))
    return able, "; ".join(["the fastest that can train this", *passed_over])
