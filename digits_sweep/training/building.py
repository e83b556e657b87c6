"""From configuration and digits to an engine that is ready for its first epoch."""

from dataclasses import dataclass

import torch

from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits
from digits_sweep.training.device import resolve_device, usable_cores
from digits_sweep.training.engines import ENGINES, choose_engine
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.model import build_model
from digits_sweep.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class BuiltEngine:
    """An engine, why it was chosen, what it computes on, and the seconds it took to build."""

    engine: Engine
    name: str
    reason: str
    device: torch.device
    num_threads: int
    seconds_setup: float

    def settle(self) -> bool:
        """Set this process to the engine's threads and its way with denormals; True where denormals are flushed.

        PyTorch keeps both for the calling thread or the process, so engines that take turns must each settle it again.
        """
        torch.set_num_threads(self.num_threads)
        return torch.set_flush_denormal(self.engine.flushes_denormals) and self.engine.flushes_denormals


def build_engine(config: Config, digits: Digits) -> BuiltEngine:
    """Choose and build the engine that `config` asks for.

    Raises `EngineRefused` where it cannot train this model there, `DeviceUnavailable` where the device is missing.
    """
    device = resolve_device(config.device)
    stopwatch = Stopwatch(device)
    with stopwatch.running():
        workload = Workload(
            images=digits.train_images,
            labels=digits.train_labels,
            scale=config.data.scale,
            model=build_model(config.model, config.seed),
            optimizer=config.optimizer,
            batch_size=config.data.batch_size,
            device=device,
            num_workers=config.data.num_workers,
        )
        name, reason = choose_engine(config.engine.name, workload)
        kind = ENGINES[name]
        auto = config.num_threads == "auto"
        threads = kind.threads(config.data.batch_size, usable_cores()) if auto else int(config.num_threads)
        engine = kind(workload)
    return BuiltEngine(engine, name, reason, device, threads, stopwatch.seconds)
