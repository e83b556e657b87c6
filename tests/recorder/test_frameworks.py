"""What Lightning, Hugging Face, several processes or a script train has the table that this program's engine gives."""

import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from digits_sweep import Recorder, load_sweep
from digits_sweep.config.plan import plan
from digits_sweep.data.digits import Digits
from digits_sweep.errors import CannotRecord
from digits_sweep.results.sweep import load_history
from digits_sweep.training.building import build_engine
from digits_sweep.training.epochs import Stopwatch, epoch_order, train

SAMPLES, BATCH, EPOCHS, LR = 100, 20, 2, 0.1
SEED = 3
COUNTED = ["status", "batch_size", "train_samples", "lr", "weight_decay", "seed", "epochs", "iterations"]
COUNTED += ["iterations_per_epoch", "first_epoch_below_threshold", "examples_to_threshold", "iterations_to_threshold"]

_random = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (SAMPLES, 1, 4, 4), dtype=torch.uint8, generator=_random)
LABELS = (IMAGES.float().mean((1, 2, 3)) > 127).long()
OVERRIDES = [
    "model=linear", "model.head=logits", "model.num_classes=2", "data.num_classes=2", "data.scale=unit", "scaling=none",
    f"data.batch_size={BATCH}", "optimizer=sgd", f"optimizer.lr={LR}", "optimizer.weight_decay=0",
    "optimizer.momentum=0", f"seed={SEED}", f"trainer.num_epochs={EPOCHS}", "trainer.loss_threshold=0.707",
    "engine=eager",
]  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def inputs() -> torch.Tensor:
    return IMAGES.float() / 255


class Order(Sampler):
    """The order of this program's epochs: of the first one, then of the second."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.epoch, self.rank, self.world = 0, rank, world

    def __iter__(self):
        self.epoch += 1
        order = epoch_order(SEED, self.epoch, SAMPLES)
        if self.world > 1:
            # Of every global batch, each process has its part.
            order = torch.cat([batch[self.rank :: self.world] for batch in order.split(BATCH)])
        return iter(order.tolist())

    def __len__(self) -> int:
        return SAMPLES // self.world

    def set_epoch(self, epoch: int) -> None:
        pass


@pytest.fixture(scope="module")
def own_engine() -> list[np.ndarray]:
    """The losses of both epochs, as this program's own engine has them."""
    config = plan(OVERRIDES).runs[0].config
    digits = Digits.of("mine", IMAGES[:, 0], LABELS, IMAGES[:, 0], LABELS)
    engine = build_engine(config, digits).engine
    weights = network().state_dict()
    with torch.no_grad():
        for parameter, start in zip(engine.model.parameters(), weights.values(), strict=True):
            parameter.copy_(start)
    epochs = train(engine, config.trainer, SEED, SAMPLES, Stopwatch(torch.device("cpu")))
    return [epoch.losses.numpy() for epoch in epochs]


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SWEEP = Path("outputs/sweeps/mine")


def assert_as_the_own_engine(own_engine: list[np.ndarray]) -> pd.Series:
    """The table counts what the engine counts exactly, and has its losses up to float32 rounding."""
    (run,) = (row for _, row in load_sweep(SWEEP).iterrows())
    losses = np.load(SWEEP / run["run_dir"] / "losses.npy")
    np.testing.assert_allclose(losses, np.concatenate(own_engine), rtol=2e-6)
    means = [epoch.astype("f8").mean() for epoch in own_engine]
    assert run["final_loss"] == pytest.approx(means[-1], rel=2e-6)
    below = [number for number, mean in enumerate(means, 1) if mean < 0.707]
    # A twentieth of 100 examples is less than an iteration.
    first = int(np.flatnonzero(np.concatenate(own_engine) < 0.707)[0]) + 1
    expected = ["completed", BATCH, SAMPLES, LR, 0, SEED, EPOCHS, 10, 5, below[0], first * BATCH, first]
    assert run[COUNTED].tolist() == expected
    history = load_history(SWEEP)
    assert history["examples"].tolist() == [100, 200]
    assert history["complete"].all()
    return run


def test_a_bare_script_gives_the_table_of_the_own_engine(own_engine):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    order = Order()
    given = {"batch_size": BATCH, "train_samples": SAMPLES, "lr": LR, "seed": SEED, "loss_threshold": 0.707}
    with Recorder(SWEEP, **given) as recorder:
        for _ in range(EPOCHS):
            with recorder.epoch():
                for batch in torch.tensor(list(order)).split(BATCH):
                    loss = cross_entropy(model(inputs()[batch]), LABELS[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    recorder.step(loss)
    assert_as_the_own_engine(own_engine)


# Several processes.

DDP = """
import sys
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from digits_sweep import Recorder
from tests.recorder.test_frameworks import BATCH, EPOCHS, LABELS, LR, SAMPLES, SEED, SWEEP, Order, inputs, network

dist.init_process_group("gloo")
model = DistributedDataParallel(network())
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
order = Order(dist.get_rank(), 2)
given = dict(batch_size=BATCH, train_samples=SAMPLES, lr=LR, seed=SEED, loss_threshold=0.707)
with Recorder(SWEEP, average=True, **given) as recorder:
    for _ in range(EPOCHS):
        with recorder.epoch():
            for batch in torch.tensor(list(order)).split(BATCH // 2):
                loss = cross_entropy(model(inputs()[batch]), LABELS[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.step(loss)
# Without `average` the losses are those of rank 0.
with Recorder("outputs/sweeps/unequal", batch_size=40, train_samples=100) as recorder:
    for _ in range(2):
        with recorder.epoch():
            for loss in (1.0, 0.8, 0.6):
                dist.barrier()
                recorder.step(loss + dist.get_rank())
        recorder.evaluated(test_error=0.5)
dist.destroy_process_group()
"""


def torchrun(script: str) -> None:
    """Run a script in two processes. Whatever they do, they and all that they started end within the time limit."""
    Path("script.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "script.py"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with Path("printed.txt").open("w") as printed:
        process = subprocess.Popen(command, env=environment, stdout=printed, stderr=printed)
        try:
            code = process.wait(timeout=240)
        except subprocess.TimeoutExpired:
            # torchrun ends its processes when it is asked to end.
            process.terminate()
            process.wait(timeout=60)
            raise
    assert code == 0, Path("printed.txt").read_text()


@pytest.mark.full
def test_of_two_processes_rank_zero_records_the_table_of_the_own_engine_and_the_other_is_silent(own_engine):
    torchrun(DDP)
    assert_as_the_own_engine(own_engine)
    (run,) = (row for _, row in load_sweep("outputs/sweeps/unequal").iterrows())
    assert (run["status"], run["batch_size"], run["iterations"], run["epochs"]) == ("completed", 40, 6, 2)
    assert run["final_loss"] == pytest.approx(0.8)


# Lightning.


def lightning_fit(package: str = "lightning.pytorch", **changed) -> None:
    pytest.importorskip("lightning", reason="the extra lightning is not installed")
    pl = importlib.import_module(package)
    callback = importlib.import_module("digits_sweep.recorder.lightning").RecorderCallback
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.automatic_optimization = network(), changed.get("automatic", True)

        def training_step(self, batch, index):
            images, labels = batch
            loss = cross_entropy(self.model(images), labels)
            if index == changed.get("leaves_out"):
                return None
            if self.automatic_optimization:
                return loss
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.log("train_loss", loss)
            return None

        def validation_step(self, batch, index):
            images, labels = batch
            scores = self.model(images)
            self.log_dict({"loss": cross_entropy(scores, labels), "wrong": (scores.argmax(1) != labels).float().mean()})

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=LR)

    data = TensorDataset(inputs(), LABELS)
    size = changed.get("size", BATCH)
    loader = changed.get("loader", DataLoader(data, size, sampler=Order()))
    given = {"loss_threshold": 0.707, "metrics": {"test_error": "wrong"}} | changed.get("callback", {})
    pl.seed_everything(SEED, verbose=False)
    trainer = pl.Trainer(
        **{"max_epochs": EPOCHS, "enable_checkpointing": False} | changed.get("trainer", {}), accelerator="cpu",
        callbacks=[callback(SWEEP, **given), *changed.get("callbacks", [])],
        logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    validation = DataLoader(data, 50) if changed.get("validates", True) else None
    trainer.fit(Module(), loader, validation, ckpt_path=changed.get("checkpoint"))


lightning = pytest.mark.filterwarnings("ignore")


@pytest.mark.full
@lightning
@pytest.mark.parametrize(
    ("package", "changed"),
    [
        ("lightning.pytorch", {}),
        ("pytorch_lightning", {}),
        ("lightning.pytorch", {"size": 5, "trainer": {"accumulate_grad_batches": 4}}),
        ("lightning.pytorch", {"automatic": False, "callback": {"loss": "train_loss"}}),
    ],
)
def test_lightning_gives_the_table_of_the_own_engine_and_is_asked_nothing_that_it_knows(own_engine, package, changed):
    lightning_fit(package, **changed)
    run = assert_as_the_own_engine(own_engine)
    assert (run["optimizer"], run["model"], run["parameters"]) == ("SGD", "Module", 34)
    assert 0 < run["test_accuracy"] < 1
    evaluations = pd.read_csv(SWEEP / run["run_dir"] / "evaluations.csv")
    assert evaluations["iterations"].tolist() == [5, 10]


@pytest.mark.full
@lightning
@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"callback": {"metrics": {"test_error": "wrogn"}}}, "metric 'wrogn': a validation .*; it logs loss, wrong"),
        ({"callback": {"targets": {"f1": (">", 0.5)}}}, "metric 'f1': a validation does not log it"),
        ({"validates": False}, "metric 'wrong': the fit has no validation"),
        ({"automatic": False}, "training_step returns no loss; log one, and name it"),
    ],
)  # fmt: skip
def test_lightning_is_refused_before_it_trains(changed, line):
    with pytest.raises(CannotRecord, match=line):
        lightning_fit(**changed)
    assert not SWEEP.exists() or not load_sweep(SWEEP)["iterations"].any()


@pytest.mark.full
@lightning
def test_a_fit_that_goes_on_from_lightnings_own_checkpoint_goes_on_with_its_run(own_engine):
    pl = pytest.importorskip("lightning.pytorch", reason="the extra lightning is not installed")

    class Stops(pl.Callback):
        def on_train_batch_end(self, trainer, *given):
            if trainer.global_step == 7:
                raise RuntimeError("the machine is taken away")

    keeps = pl.callbacks.ModelCheckpoint("checkpoints", filename="last", save_on_train_epoch_end=True)
    with pytest.raises(RuntimeError, match="taken away"):
        lightning_fit(trainer={"enable_checkpointing": True}, callbacks=[keeps, Stops()])
    assert load_sweep(SWEEP)["status"].tolist() == ["failed"]
    order = Order()
    order.epoch = 1
    data = DataLoader(TensorDataset(inputs(), LABELS), BATCH, sampler=order)
    lightning_fit(loader=data, checkpoint="checkpoints/last.ckpt")
    assert assert_as_the_own_engine(own_engine)["resumes"] == 1


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(inputs(), LABELS, strict=True))


@pytest.mark.full
@lightning
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"trainer": {"max_steps": 7, "max_epochs": -1}}, (100, 1, 7, "max_steps reached")),
        ({"leaves_out": 1}, (100, 2, 8, None)),
        ({"trainer": {"limit_train_batches": 3}}, (60, 2, 6, None)),
        ({"size": 30, "trainer": {"accumulate_grad_batches": 2}}, (100, 2, 4, None)),
        ({"loader": DataLoader(Stream(), 30)}, (None, 2, 8, None)),
    ],
)
def test_lightning_may_end_leave_out_and_stream_what_it_wants(changed, expected):
    lightning_fit(**changed)
    (run,) = (row for _, row in load_sweep(SWEEP).iterrows())
    assert run["status"] == "completed"
    columns = run[["train_samples", "epochs", "iterations", "ended"]]
    assert tuple(None if pd.isna(value) else value for value in columns) == expected


# Hugging Face.


class Tiny(nn.Module):
    """A network as Transformers' Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def forward(self, pixels, labels=None):
        scores = self.model(pixels)
        return {"loss": cross_entropy(scores, labels), "logits": scores}


def transformers_train(**changed) -> None:
    pytest.importorskip("transformers", reason="the extra transformers is not installed")
    from transformers import Trainer, TrainingArguments

    from digits_sweep.recorder.transformers import RecorderCallback

    class InOrder(Trainer):
        def _get_train_sampler(self, *given, **named):
            return Order()

    usual = {
        "output_dir": "checkpoints", "num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH, "seed": SEED,
        "learning_rate": LR, "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0, "use_cpu": True,
        "eval_strategy": "epoch", "save_strategy": "no", "logging_strategy": "no", "report_to": [],
        "disable_tqdm": True,
    }  # fmt: skip
    data = [{"pixels": image, "labels": label} for image, label in zip(inputs(), LABELS, strict=True)]
    trainer = InOrder(
        Tiny(), TrainingArguments(**usual | changed), train_dataset=data, eval_dataset=data,
        compute_metrics=lambda scores: {"accuracy": float((scores.predictions.argmax(1) == scores.label_ids).mean()),
                                        "f1": 0.5},
    )  # fmt: skip
    trainer.add_callback(RecorderCallback(trainer, SWEEP, loss_threshold=0.707, targets={"f1": (">=", 0.4)}))
    trainer.train()


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulate", [1, 4])
def test_hugging_face_gives_the_table_of_the_own_engine_and_is_asked_nothing_that_it_knows(own_engine, accumulate):
    transformers_train(per_device_train_batch_size=BATCH // accumulate, gradient_accumulation_steps=accumulate)
    run = assert_as_the_own_engine(own_engine)
    assert (run["optimizer"], run["model"], run["parameters"]) == ("sgd", "Tiny", 34)
    assert 0 < run["test_accuracy"] < 1
    (target,) = pd.read_csv(SWEEP / "targets.csv").itertuples()
    assert (target.target, target.reached, target.iterations_at) == ("f1", True, 5)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_may_end_within_an_epoch():
    transformers_train(max_steps=7)
    (run,) = (row for _, row in load_sweep(SWEEP).iterrows())
    assert (run["status"], run["ended"], run["epochs"], run["iterations"]) == ("completed", "max_steps reached", 1, 7)
