"""The log in the folder of a run: `conf/hydra/job_logging/run_log.yaml` names its handler."""

import io
import logging
import os
from contextlib import suppress

from digits_sweep.errors import escape_controls


class RunLog(logging.FileHandler):
    """Appends to a file, but never through a link or to a pipe, which a folder from somebody else may hold.

    What cannot be written there is left out. Control characters are written out: logs are read on terminals.
    """

    def __init__(self, filename: str) -> None:
        super().__init__(filename, encoding="utf-8", delay=True)

    def _open(self) -> io.TextIOWrapper:
        flags = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK"))
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | flags, 0o666)
        return os.fdopen(descriptor, "a", encoding=self.encoding)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if the file can be opened."""
        with suppress(OSError):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return escape_controls(super().format(record))
