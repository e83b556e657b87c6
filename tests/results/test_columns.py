"""The columns of a sweep's table: those that every table has, and one for each other key that was swept."""

from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.sweep import load_sweep
from tests.studies import add_run, finished, losses_reaching


def test_a_swept_key_is_a_column_and_one_that_all_runs_share_is_none(tmp_path):
    for momentum in (0.5, 0.9):
        config = {"optimizer.momentum": momentum, "optimizer.nesterov": False, "data.root": f"{momentum}"}
        add_run(tmp_path, f"momentum={momentum}", losses_reaching(2), config=config)
    table = load_sweep(finished(tmp_path).folder)
    assert list(table.columns) == [*(column.name for column in COLUMNS), "optimizer.momentum"]
    assert list(table["optimizer.momentum"]) == ["0.5", "0.9"]


def test_a_key_that_some_runs_do_not_have_is_empty_there(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(2), config={"model.arguments.width": 64})
    assert load_sweep(tmp_path)["model.arguments.width"].fillna("-").tolist() == ["-", "64"]


def test_network_and_rule_are_columns(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), config={"scaling.rule": "sqrt", "model.head": "logits"})
    (row,) = load_sweep(tmp_path).to_dict("records")
    found = {name: row[name] for name in ("rule", "scale", "head", "hidden_layers", "activation")}
    assert found == {"rule": "sqrt", "scale": "unit", "head": "logits", "hidden_layers": 2, "activation": "relu"}


def test_a_run_that_stopped_at_the_threshold_says_so(tmp_path):
    stop = {"trainer.stop_at_threshold": True}
    add_run(tmp_path, "a", losses_reaching(2, num_epochs=2), config=stop)
    add_run(tmp_path, "b", losses_reaching(None), config=stop)
    add_run(tmp_path, "c", losses_reaching(2))
    assert load_sweep(tmp_path)["ended"].fillna("-").tolist() == ["trainer.loss_threshold reached", "-", "-"]
