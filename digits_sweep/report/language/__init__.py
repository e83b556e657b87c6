"""The language of what the report says: English, which the code is written in, or a catalogue by the English text.

A catalogue is a dictionary in Python: gettext would need a compiler when the wheel is built, and a file that may be
older than its source. It is looked up where a text is said, in a context: a page is made in one language from end to
end, and no function in between has to pass it on.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from digits_sweep.report.language import pt_br

ENGLISH = "en"
CATALOGUES: dict[str, Mapping[str, str]] = {ENGLISH: {}, "pt-BR": pt_br.TEXTS}
_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


@contextmanager
def in_language(name: str) -> Iterator[None]:
    """Say everything in the block in the language called `name`. Raises ValueError if there is no such catalogue."""
    if name not in CATALOGUES:
        raise ValueError(f"language {name}: choose {' or '.join(CATALOGUES)}")
    token = _language.set(name)
    try:
        yield
    finally:
        _language.reset(token)


def language() -> str:
    """Return the name of the present language, as HTML has it."""
    return _language.get()


def said(text: str, /, **fields: Any) -> str:
    """Return `text` in the present language, with what its `{fields}` stand for."""
    template = CATALOGUES[_language.get()].get(text, text)
    return template.format(**fields) if fields else template
