"""What a command prints: nobody has to read it, and what cannot be written is dropped."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


class Tolerant(io.TextIOBase):
    """A stream that drops what `stream` cannot take: what is printed must not change what is trained or recorded.

    The disk may be full, the terminal gone, the stream closed, or its encoding may lack a character.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return bool(self._stream.isatty())
        except Exception:
            return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            with suppress(Exception):
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        except Exception:
            # Whatever a program has put in the place of standard output raises what it likes.
            pass
        return len(text)

    def flush(self) -> None:
        with suppress(Exception):
            self._stream.flush()


def write_line(text: str) -> None:
    """Print to standard output, as far as it can be written."""
    print(text, file=Tolerant(sys.stdout), flush=True)


def drop_what_is_left() -> None:
    """Flush the standard streams. What cannot be written Python would report at exit, with an exit code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
