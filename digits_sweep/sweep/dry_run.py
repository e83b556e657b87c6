"""What a sweep would do, run by run: looked at, not done."""

from pathlib import Path

from digits_sweep.config.plan import Plan
from digits_sweep.config.schema import Config
from digits_sweep.sweep.resume import is_finished, recorded_run

HEADER = ("run", "batch size", "lr", "weight decay", "seed", "epochs", "engine", "would")


def preview(plan: Plan, sweep_dir: Path | None) -> list[list[str]]:
    """A row under `HEADER` for every run of `plan`, with what is already done of it in `sweep_dir`, if it has one."""
    return [
        [
            run.folder,
            str(run.config.data.batch_size),
            f"{run.config.optimizer.lr:g}",
            f"{run.config.optimizer.weight_decay:g}",
            str(run.config.seed),
            str(run.config.trainer.num_epochs),
            run.config.engine.name,
            _would(run.config, sweep_dir / run.folder if sweep_dir else None),
        ]
        for run in plan.runs
    ]


def _would(config: Config, run_dir: Path | None) -> str:
    record = recorded_run(run_dir) if run_dir else None
    if record is None:
        return "start at epoch 1" + (f", its record is unreadable: {run_dir}" if _has_record(run_dir) else "")
    if is_finished(record, config):
        return f"be kept: {record.status} after {record.summary['epochs']} epochs"
    return f"go on after epoch {record.summary['epochs']}: {record.status}"


def _has_record(run_dir: Path | None) -> bool:
    return run_dir is not None and (run_dir / "record.json").exists()
