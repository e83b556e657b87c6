"""`python -m benchmarks.estimators [key=value ...]`: how far cheap estimates of B_crit lie from full studies.

For every one of `SETTINGS`, which differ in data, network and optimizer, there is a full study, whose answers are the
truth, a quick study of its goals, and single runs at its tuned rates, both on other seeds. What is missing in the
folder is made, one after the other; a command that was stopped goes on. Every estimator gets one constant factor, from
the settings that calibrate it; how far it is off is counted on those that are held out. The table goes into
`docs/findings.md`, the figure beside it.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.estimates import ESTIMATORS, Setting
from digits_sweep import critical_batch_size
from digits_sweep.__main__ import main as sweep
from digits_sweep.config.text import key_of, to_text
from digits_sweep.errors import CannotSearch, DigitsSweepError
from digits_sweep.report.critical import Critical, load_critical
from digits_sweep.report.vega import INK, SERIES, Figure, amount, layer, spec_of
from digits_sweep.report.words import rounded, times
from digits_sweep.results.critical import Answer, read_answers, studies_in
from digits_sweep.results.record import describe_environment
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import RecordedSweep, sweeps_in
from digits_sweep.search.settings import SIZE, read_critical

TARGET = "evaluation.targets.train_error"
DOCS = Path(__file__).parents[1] / "docs"
FOLDER, PAGE, FIGURE = Path("outputs/estimators"), DOCS / "findings.md", DOCS / "estimators.svg"
# What the command has written stands between them.
BEGIN, END = "<!-- estimators -->", "<!-- end of estimators -->"
# What the studies have in common; a setting may type it otherwise.
STUDY = (
    "critical.seeds=3", "critical.confirm=7", "critical.branch=true", "evaluation.train_samples=2000",
    "evaluation.test_samples=100", "hydra/launcher=basic", "quiet=true",
)  # fmt: skip
OPTDIGITS = (
    "data=optdigits", "data.batch_size=5,20,50,100,300,718", "data.last=drop", "trainer.num_epochs=100",
    "evaluation.train_samples=1437", "critical.branch_examples=5000",
)  # fmt: skip
SAMPLE = (
    "data=mnist_sample", "data.batch_size=5,20,100,300,1000,2000", "data.last=drop", "trainer.num_epochs=20",
    "critical.branch_examples=5000",
)  # fmt: skip
SMALL, LINEAR, CNN = (
    ("model.hidden_size=32",),
    ("model=linear", "model.head=logits"),
    ("model=cnn", "model.head=logits"),
)
SGD = ("optimizer=sgd", "critical.lr=3e-2")


def _below(*errors: float) -> tuple[str]:
    return (f"{TARGET}={to_text(errors).replace(' ', '')}",)


SETTINGS = {
    # The study of docs/critical-batch-size.md.
    "mnist, MLP 128, Adam": ("critical.seeds=5", "evaluation.train_samples=4000", "evaluation.test_samples=1000"),
    "mnist, MLP 32, Adam": (*SMALL, *_below(0.12, 0.08)),
    "mnist, linear, Adam": (*LINEAR, *_below(0.15, 0.12)),
    "mnist, MLP 128, SGD": (*SGD, *_below(0.1, 0.07)),
    "mnist_sample, CNN, Adam": (*SAMPLE, *CNN, *_below(0.15, 0.1)),
    "optdigits, MLP 128, Adam": (*OPTDIGITS, *_below(0.1, 0.05)),
    "optdigits, MLP 32, Adam": (*OPTDIGITS, *SMALL, *_below(0.1, 0.05)),
    "optdigits, linear, Adam": (*OPTDIGITS, *LINEAR, *_below(0.1, 0.06)),
    "optdigits, CNN, Adam": (*OPTDIGITS, *CNN, *_below(0.1, 0.05)),
    "optdigits, MLP 32, SGD": (*OPTDIGITS, *SMALL, *SGD, *_below(0.1, 0.05)),
}  # fmt: skip
# Chosen before any of them was made: of either data, and of every kind of network and optimizer but the one of 128.
HELD_OUT = ("mnist, MLP 32, Adam", "mnist, MLP 128, SGD", "optdigits, linear, Adam", "optdigits, CNN, Adam")
# Single runs: their batch sizes, and seeds that no study has.
RUN_SIZES, RUN_SEEDS, QUICK_SEED = (20, 100, 300), (2000, 2001), 3000
# What a quick study chooses itself.
NOT_QUICK = ("critical.seeds", "critical.confirm", "critical.branch", SIZE, TARGET, "trainer.num_epochs")
RESAMPLES, SEED, TAIL = 2_000, 0, 2.5
# An estimate within this factor of the truth is near enough for most uses.
NEAR = 1.5


class Maker:
    """Makes what is missing of a setting in `folder`, with overrides of the command line for every run."""

    def __init__(self, name: str, folder: Path, overrides: Sequence[str]) -> None:
        self.name, self.folder, self.typed = name, folder / name.replace(", ", "-").replace(" ", "").lower(), overrides

    def arguments(self) -> list[str]:
        """Return the words of the study: what is typed for it takes the place of what all have."""
        own = [*SETTINGS[self.name], *self.typed]
        return [*(text for text in STUDY if key_of(text) not in set(map(key_of, own))), *own]

    def setting(self) -> Setting:
        """Return everything that is recorded of the setting, once it is made. Raises `CannotSearch` without an answer.

        Raises SystemExit if a command was stopped.
        """
        critical = load_critical(self.study(self.folder, self.arguments()))
        if critical is None or not (answered := [answer for answer in critical.answers if answer.b_crit]):
            raise CannotSearch(f"{self.folder}: the study of {self.name} has no answer, so it is no truth")
        goals = _below(*(answer.threshold for answer in answered))
        words = [text for text in self.arguments() if key_of(text) not in NOT_QUICK]
        quick = self.study(self.folder / "quick", [*words, *goals, "critical.quick=true", f"seed={QUICK_SEED}"])
        examples = sum(run.history[-1].examples for run in RecordedSweep(quick).runs.values() if run.history)
        return Setting(self.name, critical, self.runs(critical, answered[-1]), read_answers(quick), examples)

    def study(self, outputs: Path, arguments: Sequence[str]) -> Path:
        """Return the folder of a study, made if it is not there; its page is written last."""
        parent = outputs / "critical_batch_size"
        there = studies_in(parent) if parent.exists() else []
        if not there or not (there[-1] / "index.html").is_file():
            print(f"{self.name}: a study in {outputs}", flush=True)
            critical_batch_size.main([*arguments, *["resume=latest"][: len(there)], f"outputs={outputs}"])
        return studies_in(parent)[-1]

    def runs(self, study: Critical, last: Answer) -> list[RecordedRun]:
        """Return single runs to every goal, at the rates that are tuned for the `last` one."""
        rates, outputs = study.steps_to(last).set_index("batch_size")["lr"].dropna(), self.folder / "runs"
        sizes = [size for size in RUN_SIZES if size in rates.index]
        there = sweeps_in(outputs) if outputs.exists() else []
        runs = list(RecordedSweep(there[-1]).runs.values()) if there else []
        if len(runs) < len(sizes) * len(RUN_SEEDS) or not all(run.status.has_ended for run in runs):
            print(f"{self.name}: single runs", flush=True)
            words = read_critical(self.arguments()).planned.command
            own = [text for text in words if key_of(text) not in (SIZE, TARGET)]
            lr = ",".join(f"{size}:{to_text(float(rates[size]))}" for size in sizes)
            sweep([
                *own, f"{SIZE}={','.join(map(str, sizes))}", f"seed={','.join(map(str, RUN_SEEDS))}",
                f"optimizer.lr={{{lr}}}", "evaluation.noise_scale=true", f"outputs={outputs}",
                *_below(*(answer.threshold for answer in study.answers)), *["resume=latest"][: len(there)],
            ])  # fmt: skip
            runs = list(RecordedSweep(sweeps_in(outputs)[-1]).runs.values())
        return runs


def estimates(settings: Sequence[Setting]) -> pd.DataFrame:
    """Return a row for every estimate of a goal that the study answers.

    `log` is the logarithm of estimate over truth, infinite if the estimator fails; all estimates of one goal together
    have the `weight` 1.
    """
    rows = []
    for name, estimator in ESTIMATORS.items():
        for setting in settings:
            own = [(each, truth) for each in estimator(setting) if (truth := setting.study.answers[each.goal].b_crit)]
            for each, truth in own:
                weight = 1 / sum(other.goal == each.goal for other, _ in own)
                log = math.log(each.value / truth) if each.value > 0 else math.inf
                rows.append({"estimator": name, "setting": setting.name, "goal": each.goal, "truth": truth,
                             "value": each.value, "log": log, "weight": weight, "examples": each.examples})  # fmt: skip
    return pd.DataFrame(rows).assign(held_out=lambda table: table["setting"].isin(HELD_OUT))


def quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the least of `values` (n,) that so large a share of their weight does not exceed; NaN of none."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) >= share * weights.sum() * (1 - 1e-9)
    return float(values[order][reached.argmax()]) if len(values) else math.nan


@dataclass(frozen=True)
class Score:
    """How far an estimator is off on the settings that are held out, with the factor that the others have set.

    `median`, `most` (90 % are nearer) and `near` (the share within `NEAR`) have the ends of their 95 % intervals behind
    them; the first two are factors, infinite if so many fail. Without settings of both kinds all are scored as they
    are, and `factor` is NaN.
    """

    factor: float
    median: tuple[float, float, float]
    most: tuple[float, float, float]
    near: tuple[float, float, float]


def score(own: pd.DataFrame) -> Score:
    """Score the estimates of one estimator; for the intervals, settings are drawn anew (the bootstrap)."""
    chance = np.random.default_rng(SEED)
    parts = [
        [part[["log", "weight"]].to_numpy(float) for _name, part in own[own["held_out"] == held_out].groupby("setting")]
        for held_out in (False, True)
    ]
    if not all(parts):
        parts = [[np.zeros((0, 2))], [*parts[0], *parts[1]]]
    measured = _measured(*map(np.concatenate, parts))
    draws = np.array([_measured(*(_drawn(part, chance) for part in parts)) for _ in range(RESAMPLES)])
    # Infinite draws are in order, but have no means between them.
    ends = np.percentile(draws, [TAIL, 100 - TAIL], axis=0, method="nearest")
    _, median, most, near = ((value, low, high) for value, low, high in zip(measured, *ends, strict=True))
    return Score(measured[0], median, most, near)


def _drawn(part: Sequence[np.ndarray], chance: np.random.Generator) -> np.ndarray:
    return np.concatenate([part[index] for index in chance.integers(0, len(part), len(part))])


def _measured(calibrating: np.ndarray, held_out: np.ndarray) -> tuple[float, float, float, float]:
    known = calibrating[np.isfinite(calibrating[:, 0])]
    shift = -quantile(known[:, 0], known[:, 1], 0.5)
    off = np.abs(held_out[:, 0] + (shift if math.isfinite(shift) else 0.0))
    median, most = (math.exp(quantile(off, held_out[:, 1], share)) for share in (0.5, 0.9))
    return math.exp(shift), median, most, float(held_out[off <= math.log(NEAR), 1].sum() / held_out[:, 1].sum())


HEADER = ("estimator", "examples", "fails", "factor", "median", "90 %", f"within {NEAR:g}")
# With fewer settings there are no others to draw.
LEAST_SETTINGS = 3


def rows_of(table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Yield a row for every estimator, under `HEADER`."""
    has_ends = table.groupby("held_out")["setting"].nunique().min() >= LEAST_SETTINGS
    for name, own in table.groupby("estimator", sort=False):
        fails = float(own.loc[~np.isfinite(own["log"]), "weight"].sum())
        scored = score(own)
        yield (
            str(name),
            rounded(own["examples"].median()),
            f"{fails:.2g} of {own['weight'].sum():.0f}",
            "-" if math.isnan(scored.factor) else f"{scored.factor:.2g}",
            *(_cell([times(each) for each in values], has_ends) for values in (scored.median, scored.most)),
            _cell([f"{100 * each:.0f} %" for each in scored.near], has_ends),
        )


def _cell(texts: Sequence[str], has_ends: bool) -> str:
    value, low, high = (text.replace("inf", "fails") for text in texts)
    return f"{value} [{low}, {high}]" if has_ends else value


# The program says how far to trust these two: `FACTOR` in search/critical.py and `Trust` in results/critical.py.
SAID = ("a quick study", "noise scale in the optimizer's metric")


def as_said(table: pd.DataFrame) -> str:
    """Return a line that says how near the program's own estimates are on all settings as it says them."""
    parts = []
    for name in SAID:
        own = table[table["estimator"] == name]
        # The metric of SGD is plain.
        for kind, part in own.groupby(own["setting"].map(lambda setting: setting.rpartition(", ")[2])):
            off, weight = np.exp(part["log"].abs()), part["weight"] / part["weight"].sum()
            shares = " and ".join(f"{100 * weight[off <= most].sum():.0f} % within {most:g}" for most in (NEAR, 2.0))
            middle = np.exp(part.loc[np.isfinite(part["log"]), "log"].median())
            goals = f"{round(part['weight'].sum())} goals"
            parts.append(f"{name} ({kind}, {goals}): {shares}, {middle:.2g} of the study's in the median")
    return f"As they are said, without a factor, on all settings: {'; '.join(parts)}."


def section(settings: Sequence[Setting], table: pd.DataFrame) -> str:
    """Return what stands between the marks on the page: the command, the truths, and the table."""
    names = [setting.name for setting in settings]
    chosen = "" if len(names) == len(SETTINGS) else f" --settings '{';'.join(names)}'"
    truths = "; ".join(
        f"{setting.name}: " + ", ".join(
            f"{answer.b_crit:.0f} [{answer.b_crit_low:.0f}, {answer.b_crit_high:.0f}] at {100 * answer.threshold:g} %"
            for answer in setting.study.answers if answer.b_crit
        )
        for setting in settings
    )  # fmt: skip
    held_out = [name for name in names if name in HELD_OUT]
    about = f"Off on {'; '.join(held_out)}, after one constant factor for each, which the other settings set."
    if len(held_out) in (0, len(names)):
        about = "Nothing is calibrated: there are no settings of both kinds."
    machine = describe_environment()
    where = f"{date.today():%Y-%m-%d}, {machine['cpu_cores']} cores of {machine['cpu']}, torch {torch.__version__}"
    rows = (f"| {' | '.join(cells)} |" for cells in (HEADER, ["---"] * len(HEADER), *rows_of(table)))
    return "\n".join([
        f"    python -m benchmarks.estimators{chosen}", "",
        f"{len(names)} of {len(SETTINGS)} settings ({where}). Full studies, at training errors: {truths}.", "",
        about, "", *rows, "", as_said(table), "",
    ])  # fmt: skip


def write_section(page: Path, text: str) -> None:
    """Put a text between the marks on a page. Raises ValueError if it has none, OSError if it cannot be written."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: has no {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def figure(table: pd.DataFrame) -> Figure:
    """Draw estimate over truth, a row for every estimator: a mark an estimate, its middle as a bar; open: held out."""
    known = table[np.isfinite(table["log"])].assign(ratio=lambda own: np.exp(own["log"]), kind="estimate")
    middles = known.groupby("estimator", sort=False)["ratio"].median().reset_index().assign(kind="median")
    own = pd.concat([known, middles])[["estimator", "setting", "ratio", "held_out", "kind"]]
    x = amount("ratio", "estimate / critical batch size of the full study", known["ratio"], kind="log", form="~g")
    axis = {"labelLimit": 300, "grid": True}
    y = {"field": "estimator", "type": "nominal", "sort": list(ESTIMATORS), "title": None, "axis": axis}
    data = [name.partition(",")[0] for name in known["setting"]]
    color = {"field": "data", "type": "nominal", "title": None, "scale": {"range": SERIES[:3]}}
    own["data"] = [*data, *[None] * len(middles)]
    hollow = {"condition": {"test": "datum.held_out", "value": 0}, "value": 1}
    marks = {"x": x, "y": y, "color": color, "fill": color, "fillOpacity": hollow}
    layers = [
        layer("point", "estimate", marks, size=45, strokeWidth=1.3, opacity=0.8),
        layer("tick", "median", {"x": x, "y": y}, color=INK, thickness=3, size=20),
        {"data": {"values": [{"ratio": 1}]}, "mark": {"type": "rule", "strokeDash": [6, 3]}, "encoding": {"x": x}},
    ]
    caption = "A mark an estimate, before its constant factor; a bar their median; open: settings that are held out."
    spec = spec_of(layers, None, 320, x="ratio", kinds=["estimate"])
    return Figure("estimators", "Cheap estimates of the critical batch size", caption, own, spec)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, write the table and draw the figure; SystemExit has the reason if something fails."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimators", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the studies are (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes (default: docs/findings.md)")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="the file to draw (default: docs/estimators.svg)")
    parser.add_argument("--settings", default=";".join(SETTINGS), help="names of settings, separated by semicolons")
    parser.add_argument("overrides", nargs="*", help="key=value for every run, such as data.root=FOLDER")
    read = parser.parse_args(arguments)
    names = read.settings.split(";")
    if unknown := set(names) - set(SETTINGS):
        sys.exit(f"--settings: {unknown.pop()} is none; choose from {'; '.join(SETTINGS)}")
    try:
        settings = [Maker(name, read.folder, read.overrides).setting() for name in names]
    except (DigitsSweepError, OSError) as error:
        sys.exit(str(error))
    table = estimates(settings)
    text = section(settings, table)
    print(text)
    write_section(read.page, text)
    figure(table).save(read.figure)


if __name__ == "__main__":
    main()
