"""The traceback of the user's own code that failed while planning: in a file, because the message is one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from digits_sweep.errors import OwnCodeFailed
from digits_sweep.results.disk.files import make_folder, replace_file
from digits_sweep.results.disk.harmless import visible

FILE = "own-code.log"


@contextmanager
def traceback_in_file(outputs: Path) -> Iterator[None]:
    """Write the traceback of the user's code that fails in the block to `own-code.log` in `outputs`, and name the file.

    The file holds the last such traceback and nothing else. If it cannot be written, the message stays as it is.
    Raises `OwnCodeFailed`.
    """
    try:
        yield
    except OwnCodeFailed as failed:
        error = failed.__cause__
        if error is None:
            raise
        path = outputs / FILE
        lines = [f"{datetime.now():%Y-%m-%d %H:%M:%S} {failed}\n", *traceback.format_exception(error)]
        try:
            make_folder(outputs)
            replace_file(path, visible("".join(lines)), durable=False)
        except OSError:
            raise failed from error
        raise OwnCodeFailed(f"{failed}; its traceback is in {path}") from error
