"""What a sweep would do, run by run, without doing it."""

from digits_sweep.config.keys import written
from digits_sweep.config.plan import Plan
from digits_sweep.config.schema import Config
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.sweep.preflight import engines
from digits_sweep.sweep.resume import is_finished

HEADER = ("run", "batch size", "lr", "weight decay", "seed", "epochs", "engine", "would")


def preview(planned: Plan, earlier: RecordedSweep | None) -> list[list[str]]:
    """Return a row under `HEADER` for every run, with what is done of it already in `earlier`, a sweep to resume."""
    engine = engines(planned)
    return [
        [
            run.folder,
            str(run.config.data.batch_size),
            written(run.config.optimizer.lr),
            written(run.config.optimizer.weight_decay),
            str(run.config.seed),
            str(run.config.trainer.num_epochs),
            engine[run.folder],
            _would(run.folder, run.config, earlier),
        ]
        for run in planned.runs
    ]


def _would(folder: str, config: Config, earlier: RecordedSweep | None) -> str:
    if earlier is None or folder not in earlier.records:
        unreadable = earlier and folder in earlier.unreadable
        return "start at epoch 1" + (f"; its record is unreadable: {earlier.folder / folder}" if unreadable else "")  # type: ignore[union-attr]
    record = earlier.records[folder]
    if is_finished(record, config):
        return f"be kept: {record.status} after {record.summary['epochs']} epochs"
    return f"resume after epoch {record.summary['epochs']}: {record.status}"
