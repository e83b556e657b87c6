"""Pages without a browser, and a sweep that fills one: for tests of the report."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

from digits_sweep.report.page import write_page
from tests.studies import add_run, finished, losses_reaching

WITHOUT_END = ("meta", "link", "br")


class Page(HTMLParser):
    """A page as a tree of elements, without a browser."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self._builder = TreeBuilder()
        self.feed(html)
        self.root: Element = self._builder.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in WITHOUT_END:
            self._builder.end(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._builder.start(tag, dict(attrs))
        self._builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self._builder.end(tag)

    def handle_data(self, data: str) -> None:
        self._builder.data(data)

    def texts(self, *tags: str) -> list[str]:
        return ["".join(each.itertext()).strip() for each in self.root.iter() if each.tag in tags]

    def rows(self, table: str) -> Iterator[list[str]]:
        """Yield the cells of every row of a table, given by its class or its id."""
        for each in self.root.iter("table"):
            if table in (*(each.get("class") or "").split(), each.get("id")):
                yield from (["".join(cell.itertext()) for cell in row] for row in each.find("tbody"))

    def links(self) -> list[str]:
        return [each.get("href") for each in self.root.iter("a")]


def page_of(folder: Path, *studies) -> Page:
    """Write the page of some sweeps to `folder` and read it."""
    write_page(folder / "index.html", studies)
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def sixty_runs(sweep):
    configurations = (
        (100, 1e-4, 5e-4, 3, 0.5),
        (20, 1e-4, 5e-4, 2, 1.2),
        (5, 1e-4, 5e-4, None, 3),
        (5, 1e-6, 5e-6, None, 3),
    )
    for row, (batch_size, lr, weight_decay, epoch, seconds) in enumerate(configurations):
        for seed in range(15):
            answers = [0 if digit == seed % 10 and epoch is None else 1000 for digit in range(10)]
            add_run(
                sweep, f"{row}_seed={seed}", losses_reaching(epoch, 30), seconds + seed / 100, batch_size=batch_size,
                lr=lr, weight_decay=weight_decay, seed=seed, test_answers=answers,
            )  # fmt: skip
    return finished(sweep)
