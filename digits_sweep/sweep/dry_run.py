"""What a sweep would do, run by run, without doing it."""

from digits_sweep.config.plan import Plan
from digits_sweep.config.schema import Config
from digits_sweep.report.words import setting
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.sweep.preflight import engines
from digits_sweep.sweep.resume import is_finished
from digits_sweep.sweep.run import recorded_engine

HEADER = ("run", "batch size", "lr", "weight decay", "seed", "epochs", "engine", "would")


def preview(planned: Plan, earlier: RecordedSweep | None) -> list[list[str]]:
    """Return a row under `HEADER` for every run, with what is done of it already in `earlier`, a sweep to resume."""
    engine = engines(planned)
    return [
        [
            run.folder,
            str(run.config.data.batch_size),
            setting("lr", run.config.optimizer.lr),
            setting("weight_decay", run.config.optimizer.weight_decay),
            str(run.config.seed),
            str(run.config.trainer.num_epochs),
            _engine_before(run.folder, run.config, earlier) or engine[run.folder],
            _would(run.folder, run.config, earlier),
        ]
        for run in planned.runs
    ]


def _engine_before(folder: str, config: Config, earlier: RecordedSweep | None) -> str | None:
    """Return the engine that a run to resume keeps, None if it has trained nothing yet."""
    run = earlier.runs.get(folder) if earlier else None
    return recorded_engine(config, run.record) if run and run.epochs else None


def _would(folder: str, config: Config, earlier: RecordedSweep | None) -> str:
    if earlier is None or folder not in earlier.runs:
        unreadable = earlier and folder in earlier.unreadable
        return "start at epoch 1" + (f"; its record is unreadable: {earlier.folder / folder}" if unreadable else "")  # type: ignore[union-attr]
    run = earlier.runs[folder]
    if is_finished(run, config):
        return f"be kept: {run.record.status} after {run.epochs} epochs"
    return f"resume after epoch {run.epochs}: {run.record.status}"
