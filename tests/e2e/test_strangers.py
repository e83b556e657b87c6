"""What strangers bring, in whole commands: it trains, or is refused in a line that says what would be right."""

import re

import pandas as pd
import pytest

from digits_sweep.results.record import read_record
from digits_sweep.search.settings import read_critical
from digits_sweep.sweep import preflight
from digits_sweep.sweep.fitting import fitted

CODE = """
from types import SimpleNamespace
import torch
from torch import nn

def images(labels, count=60, channels=1, size=6):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(150, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    labels = labels(torch.arange(count))
    cut = 2 * count // 3
    return (pixels[:cut], labels[:cut]), (pixels[cut:], labels[cut:])

def three(count=60, channels=1): return images(lambda numbers: numbers % 3, count, channels)
def one_based(): return images(lambda numbers: numbers % 3 + 1)
def far_apart(): return images(lambda numbers: numbers % 2 * 3)
def several(): return images(lambda numbers: torch.stack([numbers % 2, numbers % 3 == 0], 1).float())
def numbers(): return images(lambda numbers: numbers / 60)
def soft(): return images(lambda numbers: torch.stack([numbers / 60, 1 - numbers / 60], 1))
def places(): return images(lambda numbers: (numbers % 2).reshape(-1, 1, 1).expand(-1, 6, 6).contiguous())

def sequences(next_token=False):
    tokens = torch.randint(9, (60, 8), generator=torch.Generator().manual_seed(0))
    labels = tokens[:, 1:] if next_token else tokens[:, 0] % 3
    inputs = tokens[:, :-1] if next_token else tokens
    return (inputs[:40], labels[:40]), (inputs[40:], labels[40:])

def waves():
    wave = torch.arange(80.0).div(5).sin()
    return torch.stack([wave[start : start + 20] for start in range(60)]).unsqueeze(2), wave[20:]

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.output = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 1)
    def forward(self, waves):
        return self.output(self.cells(waves)[0][:, -1])

def linear(num_classes): return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
def builder(**keywords): return linear(keywords["num_classes"])
def normalized(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))
def mask(num_classes): return nn.Conv2d(1, num_classes, 3, padding=1)
def ends(): raise SystemExit("no licence")

class Logits(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = linear(num_classes)
    def forward(self, images):
        return SimpleNamespace(logits=self.layer(images), loss=None)

class Dictionary(Logits):
    def forward(self, images):
        return {"logits": self.layer(images)}

class Breaks(Logits):
    def forward(self, images):
        if self.training:
            raise KeyError("attention_mask")
        return self.layer(images)

class Words(nn.Module):
    def __init__(self, num_classes, at_every_place=False):
        super().__init__()
        self.embedding, self.output = nn.Embedding(9, 4), nn.Linear(4, num_classes)
        self.at_every_place = at_every_place
    def forward(self, tokens):
        words = self.embedding(tokens)
        return self.output(words if self.at_every_place else words.mean(1))

def sparse(num_classes): return nn.EmbeddingBag(9, num_classes, sparse=True)
def compiled(num_classes): return torch.compile(linear(num_classes), backend="eager")
def distance(outputs, labels, power=2): return (outputs.squeeze(1) - labels).abs().pow(power).mean()
"""


@pytest.fixture
def command(module, program):
    """Run a command with the code above in the working folder."""

    def run(data, model, *more, threshold="null"):
        own = [f"data.target={module}:{data}", f"model.target={module}:{model}", f"trainer.loss_threshold={threshold}"]
        texts = [text.replace("MINE", module) for text in more]
        return program("-m", "data=own", "model=own", "optimizer=adamw", "trainer.num_epochs=1", *own, *texts)

    return run


TRAINS = {
    "classes from the labels": ("three", "linear"),
    "num_classes in keywords": ("three", "builder"),
    "an object with logits": ("three", "Logits"),
    "a dictionary with logits": ("three", "Dictionary", "model.head=softmax"),
    "a compiled network": ("three", "compiled"),
    "more classes than occur": ("far_apart", "linear", "data.num_classes=6"),
    "tokens": ("sequences", "Words"),
    "next tokens": ("sequences", "Words", "data.arguments={next_token:true}", "model.arguments={at_every_place:true}"),
    "series of numbers": ("waves", "Recurrent", "loss=mse"),
    "masks": ("places", "mask", "loss.class_weights=balanced"),
    "soft labels": ("soft", "linear"),
    "smoothing and weights": ("three", "linear", "loss.label_smoothing=0.1", "loss.class_weights=balanced"),
    "several labels": ("several", "linear", "loss=bce"),
    "a regression": ("numbers", "linear", "loss=mse", "evaluation.targets.test_loss=[0.01]"),
    "a loss of its own": ("numbers", "linear", "loss=own", "loss.target=MINE:distance", "loss.arguments={power:1}"),
    "a loss of PyTorch's": ("three", "linear", "loss=own", "loss.target=torch.nn:CrossEntropyLoss"),
    "the lesson's loop": ("numbers", "linear", "loss=mse", "engine=lesson", "data.num_workers=0"),
    "whole batches": ("three", "normalized", "data.arguments={count:31}", "data.batch_size=5", "data.last=drop"),
}  # fmt: skip


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", TRAINS)
def test_it_trains_is_evaluated_and_its_noise_is_measured(kind, command, program):
    evaluation = ["evaluation=fine", "evaluation.every_examples=20", "evaluation.noise_scale=true"]
    finished = command(*TRAINS[kind], *evaluation)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "2 : 1" in finished.stdout or " to predict" in finished.stdout or "classes" in finished.stdout
    has_classes = not any(text in ("loss=mse", "loss.target=MINE:distance") for text in TRAINS[kind])
    (accuracy,) = program.table()["test_accuracy"]
    assert pd.notna(accuracy) == has_classes
    evaluations = pd.read_csv(next(program.sweep().glob("*/evaluations.csv")))
    assert evaluations["train_loss"].notna().all()
    assert evaluations["test_error"].notna().all() == has_classes
    assert (evaluations["gradient_trace"] > 0).all()
    program.completes(module="digits_sweep.report")


def test_batches_are_counted_as_they_are_trained(command, program):
    command(*TRAINS["whole batches"])
    (row,) = program.table().to_dict("records")
    assert (row["train_samples"], row["iterations_per_epoch"], row["iterations"]) == (20, 4, 4)
    (record,) = (read_record(path.parent) for path in program.sweep().glob("*/record.json"))
    assert (record.config["data"]["num_classes"], record.config["model"]["num_classes"]) == (3, 3)


REFUSED = {
    ("one_based", "linear"): "data.target=MINE:one_based: its labels are 1 to 3, must be 0 to 2: subtract 1",
    ("numbers", "linear"): "data.target=MINE:numbers: its labels such as 0.01667 are no classes; loss=mse is for a",
    ("numbers", "linear", "loss=mse", "evaluation=fine", "evaluation.targets.train_error=[0.1]"):
        "evaluation.targets.train_error=[0.1]: a regression has no errors; give a loss",
    ("numbers", "linear", "loss=mse", "model.head=softmax"): "loss=mse: takes a network's outputs as they are",
    ("numbers", "linear", "loss=mse", "model.num_classes=3"): "model.num_classes=3: must be 1, the numbers in a label",
    ("numbers", "linear", "loss=mse", "engine=closed_form"): "engine=closed_form: it knows the gradient of model=mlp",
    ("three", "normalized", "data.arguments={count:31}", "data.batch_size=19,20"):
        "data.batch_size=19: the last batch of an epoch has 1 of 20 examples, on which the network fails: Exp",
    ("three", "normalized", "data.micro_batch=3"): "data.micro_batch=3: what 2 (BatchNorm",
    ("three", "normalized", "data.arguments={count:31}", "schedule.batch={0:3,9:10}"):
        "schedule.batch={0:3,9:10}: the last batch of an epoch has 1 of 20 examples, on which the network fails: Exp",
    ("three", "Breaks"): "model.target=MINE:Breaks: fails when it is trained on 20 examples (KeyError: ",
    ("three", "ends"): "model.target=MINE:ends: cannot be built (SystemExit: no licence)",
    ("three", "linear", "loss=own", "loss.target=MINE:nothing"): "loss.target=MINE:nothing: cannot be imported",
    ("three", "linear", "loss=own", "loss.target=MINE:distance"):
        "loss.target=MINE:distance: fails when it is trained on 20 examples (RuntimeError: The size of tensor a",
    ("three", "linear", "data.last=drop", "data.batch_size=41"): "data.batch_size=41: must be at most 40",
    ("waves", "mask", "loss=mse"):
        "model.target=MINE:mask: fails on inputs of 20 x 1 without a channel, (n, 1, 20, 1) has one (RuntimeError: Gi",
    ("sequences", "sparse"): "optimizer=adamw: takes no sparse gradient, as weight has; leave out sparse=True",
    ("three", "linear", "optimizer=own", "optimizer.target=torch.optim:LBFGS"):
        "optimizer.target=torch.optim:LBFGS: fails at its first step (TypeError: LBFGS.step() missing 1 required",
}  # fmt: skip


@pytest.mark.sampled(3)
@pytest.mark.parametrize("typed", REFUSED, ids=list(REFUSED.values()))
def test_it_is_refused_in_a_line_while_planning(typed, command, module, program):
    refused = command(*typed)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith(REFUSED[typed].replace("MINE", module))
    assert program.sweeps() == []


THRESHOLDS = [
    ("1.6", (), "trainer.loss_threshold=1.6: the untrained network has 1."),
    ("0.5", ("loss.label_smoothing=0.5",), "trainer.loss_threshold=0.5: with label_smoothing=0.5 the loss cannot fall"),
    (
        "0.5",
        ("evaluation=fine", "evaluation.targets.train_loss=[9]"),
        "evaluation.targets.train_loss=[9]: the untrained",
    ),
]


@pytest.mark.parametrize(("threshold", "more", "line"), THRESHOLDS)
def test_a_threshold_lies_between_what_the_loss_can_be_and_its_start(threshold, more, line, command):
    refused = command("three", "linear", *more, threshold=threshold)
    assert refused.returncode == 1
    assert refused.stderr.startswith(line)


WINE = ("data=own", "data.target=sklearn.datasets:load_wine", "model=mlp_logits", "optimizer=adamw")


def test_a_threshold_is_asked_for_with_the_loss_at_the_start(program):
    refused = program(*WINE)
    assert refused.returncode == 1
    line = (
        r"trainer\.loss_threshold: name the loss to look for, the untrained network has [\d.]+; null looks for none\n"
    )
    assert re.fullmatch(line, refused.stderr)
    program.completes(*WINE, "evaluation=fine", "evaluation.targets.test_error=[0.1]", "dry_run=true")


@pytest.mark.full
def test_batch_sizes_that_were_not_typed_fit_the_data(program, tmp_path):
    (tmp_path / "few.py").write_text("import torch\ndef few():\n    return torch.rand(10, 3), torch.arange(10) % 2\n")
    program.completes("data=own", "data.target=few:few", "trainer.loss_threshold=null", "trainer.num_epochs=1")
    assert list(program.table()["batch_size"]) == [8]
    sizes = fitted(read_critical(["data=optdigits", "model=cnn"]).planned, lambda line: None).runs
    assert [run.config.data.batch_size for run in sizes] == [5, 20, 100, 300, 1000]
    preflight.check(fitted(read_critical(["data=optdigits", "model=cnn"]).planned, lambda line: None))


def test_tokens_need_a_network_that_takes_them(module, program):
    refused = program("data=own", f"data.target={module}:sequences", "trainer.loss_threshold=null")
    assert refused.stderr.splitlines() == ["model=mlp: takes images, not tokens; model=own can embed them"]


def test_a_data_set_of_scikit_learns_needs_no_code(program):
    finished = program.completes(
        "-m", *WINE, "data.batch_size=100,20", "trainer.num_epochs=2", "trainer.loss_threshold=0.5"
    )
    seen = "sklearn.datasets:load_wine: 142 + 36 rows of 13 float32 features, 3 classes, 1.5 : 1 imbalanced"
    assert finished.stdout.splitlines()[0] == seen
    assert "standardize every column" in finished.stdout
