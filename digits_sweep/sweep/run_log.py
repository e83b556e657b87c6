"""The log in the folder of a run: `conf/hydra/job_logging/run_log.yaml` names its handler."""

import io
import logging
import os
from contextlib import suppress
from pathlib import Path

from digits_sweep.errors import escape_controls
from digits_sweep.results.changes import open_own


class RunLog(logging.FileHandler):
    """Appends to a file, but to no link, pipe or file with a second name, as a folder from somebody else may hold.

    What cannot be written there is left out. Control characters are written out: logs are read on terminals.
    """

    def __init__(self, filename: str) -> None:
        super().__init__(filename, encoding="utf-8", delay=True)

    def _open(self) -> io.TextIOWrapper:
        descriptor = open_own(Path(self.baseFilename), os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding=self.encoding)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if the file can be opened."""
        with suppress(OSError):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return escape_controls(super().format(record))
