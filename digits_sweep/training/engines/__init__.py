"""The engines, and how one is chosen. A new one is a file here, a line in `ENGINES` and a YAML in `conf/engine`."""

import torch
from torch import nn

from digits_sweep.config.schema import OptimizerConfig, ScheduleConfig
from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.cuda_graph import CudaGraphEngine
from digits_sweep.training.engines.cuda_kernel import CudaKernelEngine
from digits_sweep.training.engines.eager import EagerEngine, LessonEngine
from digits_sweep.training.engines.native import NativeEngine
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.schedule import is_constant

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

CONSTANT = ScheduleConfig()


def refusal(
    name: str,
    model: nn.Module,
    optimizer: OptimizerConfig,
    device: torch.device,
    schedule: ScheduleConfig,
    floats: bool = False,
    batch_size: int = 1,
) -> str | None:
    """Return why the engine `name` cannot train `model` so on `device`, or None. Raises KeyError if there is none.

    `floats` says that the images are not uint8.
    """
    if floats and not ENGINES[name].reads_floats:
        return "it reads uint8 images only"
    if not (is_constant(schedule) or ENGINES[name].follows_schedules):
        return "it trains with schedule=constant only"
    return ENGINES[name].refusal(model, optimizer, device, batch_size)


def choose_engine(
    name: str,
    model: nn.Module,
    optimizer: OptimizerConfig,
    device: torch.device,
    schedule: ScheduleConfig = CONSTANT,
    floats: bool = False,
    batch_size: int = 1,
) -> tuple[str, str]:
    """Return the name of the engine to train `model` with, and why, in a few words.

    `model` may lie on the meta device: nothing is computed. `floats` says that the images are not uint8. Raises
    `EngineRefused` if the engine that `name` asks for cannot train it there, and KeyError if there is no such engine.
    """
    if name != "auto":
        if why := refusal(name, model, optimizer, device, schedule, floats, batch_size):
            raise EngineRefused(f"engine={name}: {why}{AUTO_PICKS}")
        return name, "asked for"
    passed_over: list[str] = []
    for candidate, engine in ENGINES.items():
        if not engine.automatic:
            continue
        why = refusal(candidate, model, optimizer, device, schedule, floats, batch_size)
        if why is None:
            return candidate, "; ".join(["the fastest that can train this", *passed_over])
        passed_over.append(f"not {candidate}: {why}")
    raise EngineRefused("engine=auto: " + "; ".join(passed_over))
