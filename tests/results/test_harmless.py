"""Text from files: what a terminal and a spreadsheet are given of it."""

import io
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.errors import InvalidConfig, escape_controls, one_line
from digits_sweep.results.files import as_csv

CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CLIPBOARD, "\\x1b]52;c;cm0gLXJmIH4=\\x07"),
        ("a\x9bb\rc\td\x00", "a\\x9bb\\rc\\td\\x00"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("half \ud800", "half \\ud800"),
        ("lr=1e-4, 2\u00b5s \U0001f600\nnext", "lr=1e-4, 2\u00b5s \U0001f600\nnext"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert escape_controls(text) == shown


def test_the_end_of_a_line_is_written_out_if_a_line_is_wanted():
    assert one_line("a\nb") == "a\\nb"


@given(st.text(st.characters()))
def test_whatever_the_text_a_terminal_gets_nothing_to_obey(text):
    shown = escape_controls(text)
    assert {unicodedata.category(character) for character in shown.replace("\n", "")}.isdisjoint({"Cc", "Cs"})
    shown.encode("utf-8")


def test_an_error_shows_no_control_characters():
    assert str(InvalidConfig(f"data.name={CLIPBOARD}: choose mnist")) == (
        "data.name=\\x1b]52;c;cm0gLXJmIH4=\\x07: choose mnist"
    )


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "\uff1d1+1", "x;=1+1", "x\n=1", "-"]
)
def test_no_cell_of_text_is_a_formula(cell):
    table = pd.DataFrame({"error": [cell, "plain"], "lr": [-1.0, 1e-4]}).astype({"error": "string", "lr": "Float64"})
    _, *rows = io.StringIO(as_csv(table)).readlines()
    first = pd.read_csv(io.StringIO(as_csv(table)))["error"][0]
    for part in first.replace("|", ";").split(";"):
        assert part[:1] not in tuple("=+-@\t\r\n\uff1d")
    assert rows[0].endswith(",-1.0\n")
    assert rows[1] == "plain,0.0001\n"


def test_numbers_and_missing_cells_are_as_pandas_writes_them():
    table = pd.DataFrame({"a": [-1, None], "b": [-0.5, float("nan")], "c": [True, False], "d": ["x", None]})
    table = table.astype({"a": "Int64", "d": "string"})
    assert as_csv(table) == table.to_csv(index=False, lineterminator="\n")


def test_a_column_is_no_formula_either():
    assert as_csv(pd.DataFrame({"=1+1": [1]})) == "'=1+1\n1\n"
