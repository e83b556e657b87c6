"""The keywords of `run` with their types, for editors. Written by make docs from the schema and conf/."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Union

T = TypeVar("T")
# One value, those of a sweep, or one for every batch size.
Several = Union[T, Sequence[T], Mapping[Any, T]]  # noqa: UP007
Folder = Union[str, os.PathLike[str]]  # noqa: UP007
# A class or a function, several of them, or the data themselves.
Own = Any


class Keys(TypedDict, total=False):
    """Every keyword of `run`."""

    activation: Several[str]
    alpha: Several[float]
    batch: Several[Any]
    batch_lr: Several[str | None]
    batch_size: Several[int]
    betas: Several[Sequence[float]]
    channels: Several[Sequence[int]]
    class_weights: Several[str | None]
    command: Several[str | None]
    data: (
        Several[
            Literal[
                "emnist_digits",
                "emnist_letters",
                "fashion_mnist",
                "kmnist",
                "mnist",
                "mnist_sample",
                "optdigits",
                "own",
                "qmnist",
            ]
        ]
        | Own
    )
    data__arguments: Mapping[str, Any]
    data__num_classes: Several[int | None]
    data__target: Several[str | None]
    decay: Several[str | None]
    decay_examples: Several[int | None]
    deterministic: Several[bool]
    device: Several[str]
    dry_run: bool
    engine: Several[Literal["auto", "closed_form", "cuda_graph", "cuda_kernel", "eager", "lesson", "native"]]
    eps: Several[float]
    evaluation: Several[Literal["fine", "none"]]
    every_examples: Several[int | None]
    experiment: Several[Literal["lesson", "lesson_replicated", "rules"]]
    fail_fast: bool
    fallback: str | None
    final: Several[float]
    head: Several[str]
    hidden_layers: Several[int]
    hidden_size: Several[int]
    kernel_size: Several[int]
    label_smoothing: Several[float]
    largest_batch: Several[int | None]
    last: Several[str]
    loss: Several[Literal["bce", "cross_entropy", "mse", "own"]] | Own
    loss__arguments: Mapping[str, Any]
    loss__target: Several[str | None]
    loss_threshold: Several[float | None]
    lr: Several[float]
    max_examples: Several[int | None]
    max_runs: int
    max_seeds: Several[int]
    micro_batch: Several[int | None]
    mirrors: Sequence[str] | None
    model: Several[Literal["cnn", "linear", "mlp", "mlp_logits", "own"]] | Own
    model__arguments: Mapping[str, Any]
    model__num_classes: Several[int | None]
    model__target: Several[str | None]
    momentum: Several[float]
    nesterov: Several[bool]
    noise_scale: Several[bool]
    num_epochs: Several[int]
    num_threads: Several[int | str]
    num_workers: Several[int]
    on_balance: Several[float]
    optimizer: Several[Literal["adam", "adamw", "muon", "own", "rmsprop", "sgd"]] | Own
    optimizer__arguments: Mapping[str, Any]
    optimizer__target: Several[str | None]
    outputs: Folder
    per_doubling: Several[float | None]
    quiet: bool
    rates: Mapping[str, Any]
    reference_batch_size: Several[int | None]
    reference_lr: Several[float | None]
    resume: Folder | None
    retries: int
    root: Folder
    rule: Several[str | None]
    scale: Several[str]
    scaling: Several[Literal["half_life", "half_life_sqrt", "lesson", "linear", "none", "sqrt", "sqrt_lr"]]
    schedule: Several[Literal["constant", "cosine", "linear"]]
    seed: Several[int]
    seeds: Several[str | None]
    stop: Several[bool]
    stop_at_threshold: Several[bool]
    test_error: Several[Sequence[float]]
    test_fraction: Several[float]
    test_loss: Several[Sequence[float]]
    test_samples: Several[int | None]
    timeout_seconds: float
    tracker: Several[Literal["mlflow", "none", "tensorboard", "wandb"]]
    train_error: Several[Sequence[float]]
    train_loss: Several[Sequence[float]]
    train_samples: Several[int | None]
    trainer: Several[Literal["lesson", "no_threshold"]]
    warmup_examples: Several[int]
    weight_decay: Several[float]
