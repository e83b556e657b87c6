"""TensorBoard: event files in a folder of every run's own."""

from pathlib import Path
from typing import Any

from digits_sweep.config.keys import flat
from digits_sweep.results.record import EpochRow
from digits_sweep.results.run import RecordedRun
from digits_sweep.trackers.protocol import final_metrics, metrics_of


class TensorBoardTracker:
    """Scalars by epoch; the configuration and the last figures as hyper-parameters. A run is known by its folder."""

    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self._open = SummaryWriter
        self._writers: dict[str, Any] = {}

    @staticmethod
    def refusal(settings: dict[str, str]) -> str | None:
        if ".." in Path(settings["folder"]).parts:
            return f"folder={settings['folder']}: must be a folder inside the run's, or the full path of one for all"
        return None

    def begin(self, run: RecordedRun, known_as: str | None) -> str:
        """Open a run; its folder follows from that of the run, whatever it is said to be known as."""
        run_dir = run.folder.resolve()
        is_outside = Path(self.folder).is_absolute()
        known_as = str(Path(self.folder, run.folder.parent.name, run.name) if is_outside else run_dir / self.folder)
        self._writers[known_as] = self._open(known_as)
        return known_as

    def epoch(self, known_as: str, row: EpochRow) -> None:
        for name, value in metrics_of(row).items():
            self._writers[known_as].add_scalar(name, value, row.epoch)
        self._writers[known_as].flush()

    def end(self, known_as: str, run: RecordedRun) -> None:
        writer = self._writers.pop(known_as)
        parameters = {
            key: value if isinstance(value, int | float | str) else str(value) for key, value in flat(run.record.config)
        }
        step = run.epochs
        writer.add_hparams(parameters, final_metrics(run), run_name=".", global_step=step)
        writer.close()
