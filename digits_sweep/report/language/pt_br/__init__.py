"""Brazilian Portuguese: every text of the report by its English one; a field in braces keeps its name."""

from digits_sweep.report.language.pt_br import figures, page, sentences, tables, warnings

TEXTS = {**figures.TEXTS, **page.TEXTS, **sentences.TEXTS, **tables.TEXTS, **warnings.TEXTS}
