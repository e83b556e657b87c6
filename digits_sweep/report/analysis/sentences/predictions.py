"""Say which classes runs never predict, and whether their loss stands still."""

from collections.abc import Iterator

from digits_sweep.report.analysis.curves.along_epochs import CLASSES, is_flat, never_predicted
from digits_sweep.report.analysis.sentences.formatting import listed
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.language import said
from digits_sweep.results.record import Record

# Of more runs the sentence has the classes only.
MOST_WITH_CLASSES = 12


def on_predictions(study: Study) -> Iterator[str]:
    """Yield one sentence for all runs whose loss is on a plateau, and one for those whose loss still falls."""
    epochs = dict(iter(study.history.groupby("run_dir")["loss_mean"]))
    kinds: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for name, counts in study.predictions.iterrows():
        if never := never_predicted(counts.dropna(), existing_classes(study.records[str(name)])):
            losses = epochs.get(name)
            kinds[losses is not None and is_flat(losses.tolist())][str(name)] = never
    for flat, runs in kinds.items():
        if runs:
            yield _sentence(runs, flat) + _cost([study.records[name] for name in runs])


def existing_classes(record: Record) -> int | None:
    """Return how many classes the data of a run has; None if its record does not say so."""
    classes = dict(record.config.get("data") or {}).get("num_classes")
    return classes if isinstance(classes, int) and classes > 0 else None


def _sentence(runs: dict[str, list[str]], flat: bool) -> str:
    (first, never), *others = runs.items()
    if not others:
        return said(
            "{name} never predicts {classes}: its loss is on a plateau."
            if flat
            else "{name} never predicts {classes}.",
            name=first, classes=listed(never),
        )  # fmt: skip
    named = [f"{name} ({listed(never)})" for name, never in runs.items()]
    return said(
        "{count} runs have classes that they never predict; their losses are on a plateau: {names}."
        if flat
        else "{count} runs have classes that they never predict: {names}.",
        count=len(runs),
        names=listed(named, MOST_WITH_CLASSES),
    )


def _cost(records: list[Record]) -> str:
    """Say what a class that is never predicted costs behind a softmax: its share of the data, which lose 1 more."""
    models = [dict(record.config.get("model") or {}) for record in records]
    heads = {model.get("head") for model in models}
    classes = {
        existing_classes(record) or model.get("num_classes", CLASSES)
        for record, model in zip(records, models, strict=True)
    }
    if heads != {"softmax"} or len(classes) != 1:
        return ""
    (count,) = classes
    return " " + said(
        "With the softmax, every class of {count} that is never predicted costs about {loss:.2g} of loss.",
        count=count,
        loss=1 / count,
    )
