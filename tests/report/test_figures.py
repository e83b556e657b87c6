"""Every figure: its specification draws whatever the sweep, and its table is the page's."""

import json
import re

import numpy as np
import pytest

from digits_sweep.config.schema import softmax_floor
from digits_sweep.report.figures import figures, losses_along
from digits_sweep.report.page import page
from digits_sweep.report.ranking import combine, with_sweep_names
from digits_sweep.report.study import loss_floor
from digits_sweep.report.vega import HEIGHT, MIME, Figure, layout_of, spread
from digits_sweep.report.words import in_language
from tests.many import sweep_of
from tests.studies import evaluation


def evaluations(size, *rows):
    config = {"evaluation.targets.train_loss": [1.6], "evaluation.targets.test_error": [0.5, 0.2]}
    return {"batch_size": size, "config": config, "evaluations": [evaluation(each, size, **row) for each, row in rows]}


UNKNOWN = dict.fromkeys(("train_loss", "train_error", "test_loss"), float("nan"))
RUNS = {
    "few": [
        run
        for seed, epoch in enumerate((3, 4, None))
        for run in (
            {"name": f"100_{seed}", "reached": epoch, "batch_size": 100, "seed": seed},
            {"name": f"5_{seed}", "seconds": 5.75, "batch_size": 5, "seed": seed},
        )
    ],
    "one": [{"name": "a <b>", "reached": 3}],
    "one epoch": [{"losses": [1.5], "batch_size": size} for size in (20, 100)],
    "none arrived": [
        {"reached": None, "batch_size": size, "test_answers": [0, *[111] * 9]} for size in (20, 100)
    ],
    "diverged": [{"losses": [2.0, float("nan")], "status": "diverged"}],
    "diverged at once": [{"losses": [float("nan")], "status": "diverged"}],
    "errors alone": [
        {**evaluations(20, (300, {"test_error": 0.3, **UNKNOWN}), (900, {"test_error": 0.1, **UNKNOWN})),
         "config": {"evaluation.targets.test_error": [0.5, 0.2]}},
    ],
    "evaluated": [
        evaluations(
            size, (0, {"train_loss": 2.3, "noise_scale": 130.0, "test_error": 0.9}),
            (300, {"train_loss": 1.8, "noise_scale": -4.0, "test_error": 0.3}),
            (900, {"train_loss": 1.5, "noise_scale": 900.0, "test_error": 0.1}),
        )
        for size in (20, 5)
    ],
    "rates": [{"reached": 3, "batch_size": size, "lr": lr} for size, lr in ((100, 1e-4), (20, 1e-4), (5, 1e-6))],
}  # fmt: skip


@pytest.fixture
def study_of(recorded, tmp_path):
    """The study of a kind of sweep."""

    def made(kind: str):
        if kind == "many":
            return sweep_of(tmp_path, 24)
        if kind == "two":
            return with_sweep_names(combine([recorded(*RUNS["few"], folder=name) for name in "ab"]))
        return recorded(*RUNS[kind])

    return made


TO_GOAL = ["seconds", "examples", "iterations", "epochs"]
LOSSES = ["loss-epoch", "loss-seconds"]
KINDS = {
    "few": [*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "seconds-epoch", "cost", "reached", "misses"],
    "one": [*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "seconds-epoch"],
    "one epoch": [*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "seconds-epoch", "cost"],
    "none arrived": [*LOSSES, "seconds-epoch", "cost", "misses"],
    "diverged": [*LOSSES, "seconds-epoch"],
    "diverged at once": ["seconds-epoch"],
    "errors alone": [*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "targets", "seconds-epoch"],
    "evaluated": [
        *(*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "frozen-loss", "noise-scale", "targets", "seconds-epoch", "cost"),
    ],
    "rates": [*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "seconds-epoch", "cost"],
    "many": [*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "heat-0", "seconds-epoch"],
    "two": [*TO_GOAL[:1], *LOSSES, *TO_GOAL[1:], "seconds-epoch", "cost", "reached", "misses"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_draws_and_its_table_is_the_pages(study_of, kind):
    study = study_of(kind)
    drawn = figures(study)
    assert [figure.name for figure in drawn] == KINDS[kind]
    runs, configurations = set(study.runs["run_dir"]), set(study.runs["configuration"])
    for figure in drawn:
        svg = figure.svg()
        assert svg.startswith('<svg role="img" aria-label="')
        assert not re.search("NaN|Infinity|undefined", svg)
        assert all((figure.title, figure.caption, figure.alternative))
        rows = figure.rows()
        json.dumps(rows, allow_nan=False)
        assert {row["run"] for row in rows if row.get("run")} <= runs
        assert {row["configuration"] for row in rows if row.get("configuration")} <= configurations


def test_the_page_has_the_specification_and_the_table_of_every_figure(study_of, tmp_path):
    study = study_of("few")
    html = page([study], tmp_path)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html)[1])
    assert list(data["figures"]) == KINDS["few"]
    for figure in figures(study):
        on_page = data["figures"][figure.name]
        assert on_page["spec"] == json.loads(json.dumps(figure.spec))
        assert on_page["table"]["rows"] == len(figure.table)


def figure_of(study, name: str) -> Figure:
    return next(figure for figure in figures(study) if figure.name == name)


def test_a_run_that_missed_keeps_the_training_that_it_had(study_of):
    table = figure_of(study_of("few"), "iterations").table
    runs = table[(table["kind"] == "run") & (table["batch_size"] == 100)]
    assert list(runs["value"]) == [1800, 2400, 6000]
    assert list(runs["missed"]) == [False, False, True]
    (median,) = table[(table["kind"] == "median") & (table["batch_size"] == 100)].to_dict("records")
    assert (median["value"], median["low"], median["high"], median["missed"]) == (2400, 1800, 6000, False)


@pytest.mark.parametrize("columns", [{"status": "interrupted"}, {"status": "failed", "error": "OSError: full"}])
def test_a_run_that_did_not_end_has_no_mark(recorded, columns):
    study = recorded({}, {"reached": None, "seed": 1, **columns})
    assert list(figure_of(study, "examples").table["run"]) == ["a"]


def test_perfect_scaling_starts_from_the_smallest_batch_size_of_the_usual_rates(study_of):
    table = figure_of(study_of("rates"), "iterations").table
    line = table[table["kind"] == "perfect"]
    assert list(line["place"] * line["value"]) == [20 * 9_000] * 2
    assert list(line["place"]) == [20, 100]
    assert set(table["note"].dropna()) == {"", "lr 1e-6"}


def test_the_median_of_a_loss_ends_with_the_shortest_run_and_its_band_at_the_floor(recorded):
    seeds = enumerate(([1.9, 1.48], [1.8, 1.48, 1.5], [1.7, 1.48, 1.5]))
    study = recorded(*({"losses": losses, "seconds": 2.0, "seed": seed} for seed, losses in seeds))
    table = losses_along(study.history, softmax_floor(10), 1)
    median = table[table["kind"] == "median"]
    assert median[["epoch", "seconds", "loss"]].to_numpy().tolist() == [[1, 2, 1.8], [2, 4, 1.48]]
    assert median["low"].tolist() == pytest.approx([1.75, softmax_floor(10)])
    assert median["high"].tolist() == pytest.approx([1.85, 1.53])
    assert table[table["kind"] == "seed"].groupby("run")["seconds"].max().tolist() == [4, 6, 6]


@pytest.mark.parametrize(
    ("columns", "floor"),
    [
        ({}, softmax_floor(10)),
        ({"config": {"model.num_classes": 47}}, softmax_floor(47)),
        ({"model": "mlp_logits"}, 0),
    ],
)
def test_the_floor_is_that_of_the_head(recorded, columns, floor):
    assert loss_floor(recorded(columns).runs) == floor


def test_the_share_of_runs_that_reached_the_threshold_never_counts_a_miss_or_an_unfinished_run(recorded):
    runs = [{"reached": epoch, "seed": seed} for seed, epoch in enumerate((3, 4, None))]
    table = figure_of(recorded(*runs, {"seed": 3, "status": "interrupted"}), "reached").table
    steps = table[table["kind"] == "median"]
    assert steps["epoch"].tolist() == [0, 3, 4, 10]
    assert steps["share"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])


def test_an_epoch_is_never_divided_by_ticks_and_one_of_them_is_a_point(study_of, recorded):
    assert (figure_of(study_of("one epoch"), "loss-epoch").table["kind"] == "point").sum() == 2
    two = [{"reached": epoch, "epochs": 3, "seed": seed} for seed, epoch in enumerate((2, 3))]
    drawn = {figure.name: figure.svg() for figure in figures(recorded(*two, folder="two"))}
    assert re.findall(r">([\d.]+)</text>", drawn["epochs"]) == ["20", "2", "3"]
    assert re.findall(r">([\d.]+)</text>", drawn["loss-epoch"])[:3] == ["1", "2", "3"]


@pytest.mark.parametrize(("kind", "is_drawn"), [("few", True), ("one", False)])
def test_a_caption_explains_a_line_only_where_there_is_one(study_of, kind, is_drawn):
    figure = figure_of(study_of(kind), "iterations")
    assert ("Dotted" in figure.caption) == (figure.table["kind"] == "perfect").any() == is_drawn


def test_an_axis_of_one_value_has_numbers_and_none_is_0k(recorded):
    drawn = figure_of(recorded(*RUNS["none arrived"], folder="none"), "seconds-epoch").svg()
    assert {">0.8</text>", ">1.2</text>"} <= set(re.findall(r">[\d.]+</text>", drawn))
    assert ">0k</text>" not in "".join(figure.svg() for figure in figures(recorded(*RUNS["evaluated"])))


def test_a_run_that_diverged_at_once_has_no_panel_with_its_mark_alone(study_of, tmp_path):
    assert "<figure" not in page([study_of("diverged at once")], tmp_path)


@pytest.mark.parametrize(("kind", "panels", "variants"), [("few", 1, 1), ("many", 6, 1), ("two", 1, 2)])
def test_what_tells_configurations_apart_is_a_shape_or_a_panel(study_of, kind, panels, variants):
    layout = layout_of(study_of(kind))
    assert (len(layout.panels), len(layout.variants)) == (panels, variants)
    beside = layout.of.groupby(["panel", "batch_size"])["place"]
    assert beside.nunique().equals(beside.size())
    assert np.allclose(layout.of["place"], layout.of["batch_size"], rtol=0.5)


def test_names_beside_lines_stand_apart():
    assert spread([1.0, 1.0, 5.0], 1.0) == [0.5, 1.5, 5.0]
    assert spread([1.0, 1.0], 2.0) == [0.0, 2.0]


def test_a_figure_is_a_file_and_what_a_notebook_shows(study_of, tmp_path):
    drawn = figures(study_of("one"))[0]
    for name, start in (("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")):
        drawn.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert "var(--" not in (tmp_path / "a.svg").read_text()
    with pytest.raises(ValueError, match=r"a\.txt: no format for a figure"):
        drawn.save(tmp_path / "a.txt")
    bundle = drawn._repr_mimebundle_()
    assert bundle[MIME]["datasets"]["table"][0]["run"] == "a <b>"
    assert bundle["image/svg+xml"].startswith("<svg")


def test_axes_have_the_signs_of_the_language(study_of):
    study = study_of("few")
    assert ">floor 1.4612</text>" in figures(study)[1].svg()
    with in_language("pt-BR"):
        svg = figures(study)[1].svg()
    assert ">1,6</text>" in svg
    assert ">piso 1,4612</text>" in svg


def test_lines_and_levels_are_named_beside_the_panel_none_over_another(recorded):
    lower = {"reached": None, "batch_size": 5, "lr": 1e-6}
    figure = figure_of(recorded(*({"batch_size": size} for size in (100, 20, 5)), lower), "loss-epoch")
    names = figure.table[figure.table["kind"].isin(["name", "level"])].sort_values("loss")
    assert set(names["label"]) == {
        "5, lr 1e-6", "threshold 1.6", "100, lr 1e-4", "20, lr 1e-4", "5, lr 1e-4", "floor 1.4612",
    }  # fmt: skip
    lines = figure.table[figure.table["kind"] == "median"]
    span = max(lines["high"].max(), 1.7) - min(lines["low"].min(), 1.4612)
    # The height of a letter.
    assert (names["loss"].diff().dropna() >= 12 / HEIGHT * span).all()
    assert "lr 1e-6" in figure.svg()
    # What most have is drawn whole.
    variants = next(each["encoding"]["strokeDash"] for each in figure.spec["layer"] if "strokeDash" in each["encoding"])
    assert variants["scale"]["domain"] == ["lr 1e-4", "lr 1e-6"]
