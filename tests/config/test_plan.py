"""What a command line would run, and what is refused before anything runs."""

from shutil import copytree

import pytest
from hydra.core.config_store import ConfigStore

from digits_sweep.config import compose
from digits_sweep.config.plan import plan

OPTIMIZERS = sorted(path.stem for path in (compose.CONF / "optimizer").glob("*.yaml"))


def folders(*arguments: str) -> list[str]:
    return [run.folder for run in plan(arguments).runs]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data.batch_size=5"], ["batch_size=5"]),
        (["-m", "data.batch_size=100,20"], ["batch_size=100", "batch_size=20"]),
        (["seed=0", "-m", "data.batch_size=100,20"], ["batch_size=100", "batch_size=20"]),
        (["-m", "seed=range(3)"], ["seed=0", "seed=1", "seed=2"]),
        (["-m", "optimizer.lr=1e-4,1e-3"], ["lr=1e-4", "lr=0.001"]),
        (["-m", "optimizer.lr=1e-4,1.0000001e-4"], ["lr=1e-4", "lr=1.0000001e-4"]),
        (["-m", "seed=0,1", "model=mlp,mlp_logits"],
         ["seed=0_model=mlp", "seed=0_model=mlp_logits", "seed=1_model=mlp", "seed=1_model=mlp_logits"]),
        (["-m", "model=glob(mlp*)"], ["model=mlp", "model=mlp_logits"]),
    ],
)  # fmt: skip
def test_a_sweep_is_every_combination_in_hydras_order(arguments, expected):
    assert folders(*arguments) == expected


def swept(*params: str) -> str:
    """An experiment with a sweep of its own."""
    lines = ["# @package _global_", "hydra:", "  sweeper:", "    params:", *(f"      {each}" for each in params)]
    return "\n".join(lines) + "\n"


@pytest.mark.full
def test_a_choice_may_have_a_sweep_of_its_own(own_file, refused):
    own_file("experiment/grid", "wide", swept("model.hidden_size: 64,128", "seed: range(2)"))
    folder, _ = own_file("experiment/grid", "long", swept("trainer.num_epochs: 1,2,3"))
    command = [folder, "-m", "+experiment/grid=wide,long"]
    wide = [f"grid=wide_hidden_size={size}_seed={seed}" for size in (64, 128) for seed in (0, 1)]
    assert folders(*command) == [*wide, *(f"grid=long_num_epochs={epochs}" for epochs in (1, 2, 3))]
    # What is typed wins, as everywhere.
    assert folders(*command, "seed=7") == [
        *(f"grid=wide_hidden_size={size}" for size in (64, 128)),
        *(f"grid=long_num_epochs={epochs}" for epochs in (1, 2, 3)),
    ]
    assert refused(*command, "max_runs=6") == (
        "this command has more than 6 runs: must be at most 6 (max_runs=N raises this)"
    )


def test_scalings_that_come_to_the_same_rates_are_runs_of_their_own():
    assert folders("-m", "scaling=none,linear", "data.batch_size=100") == ["scaling=none", "scaling=linear"]


def test_shuffled_values_are_all_there():
    assert sorted(folders("-m", "seed=shuffle(range(5))")) == [f"seed={seed}" for seed in range(5)]


def test_what_depends_on_the_moment_is_resolved_once():
    planned = plan(["-m", "outputs='o/${now:%H-%M-%S-%f}'", "seed=range(5)", "model=mlp,mlp_logits"])
    assert len({run.config.outputs for run in planned.runs}) == 1


def test_a_configuration_folder_of_the_users_is_found(own_file):
    flag, wide = own_file("model", "wide", "defaults: [mlp, _self_]\nhidden_size: 512\n")
    folder = flag.partition("=")[2]
    for flags in (["--config-dir", folder], [flag], ["-cd", folder], [f"hydra.searchpath=[file://{folder}]"]):
        assert plan([*flags, wide]).settings.model.hidden_size == 512


def test_hydra_composes_once_for_every_set_of_choices_and_again_if_one_has_changed(monkeypatch, tmp_path):
    composed = []
    compose_by_hydra = compose.compose

    def counted(*arguments, **options):
        composed.append(arguments)
        return compose_by_hydra(*arguments, **options)

    monkeypatch.setattr(compose, "compose", counted)
    monkeypatch.setattr(compose, "CONF", copytree(compose.CONF, tmp_path / "conf"))
    command = ["-m", "outputs='o/${now:%H-%M-%S-%f}'", "seed=range(50)", "model=mlp,mlp_logits"]
    first, second = plan(command), plan(command)
    assert len(first.runs) == len(second.runs) == 100
    # The two models.
    assert len(composed) == 2
    assert first.outputs != second.outputs
    edited = tmp_path / "conf" / "model" / "mlp.yaml"
    edited.write_text(edited.read_text().replace("hidden_size: 128", "hidden_size: 7"))
    assert plan(["model=mlp"]).settings.model.hidden_size == 7
    monkeypatch.setattr(ConfigStore.instance(), "repo", {**ConfigStore.instance().repo})
    for size in (8, 9):
        stored = {"defaults": ["mlp", "_self_"], "hidden_size": size}
        ConfigStore.instance().store(group="model", name="stored", node=stored)
        assert plan(["model=stored"]).settings.model.hidden_size == size


def test_a_range_is_counted_without_being_made(refused):
    assert refused("-m", "seed=range(100000000)", "model=mlp,mlp_logits") == (
        "this command has 200,000,000 runs: must be at most 10,000 (max_runs=N raises this)"
    )
    assert len(folders("-m", "seed=range(3)", "max_runs=3")) == 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["optimizer.learning_rate=1"], "optimizer.learning_rate=1: there is no such key; did you mean optimizer.lr?"),
        (["lr=1e-3"], "lr=1e-3: there is no such key; did you mean optimizer.lr?"),
        (["batch_size=5"], "batch_size=5: there is no such key; did you mean data.batch_size?"),
        (["epochs=3"], "epochs=3: there is no such key; did you mean trainer.num_epochs?"),
        (["optimizer.momentum=0.9"], "optimizer.momentum=0.9: there is no such key with this optimizer"),
        (["tracker.mlflow.uri=x"], "tracker.mlflow.uri=x: add tracker=mlflow"),
        (["data.batch_size=0"], "data.batch_size=0: must be a whole number from 1 up"),
        (["data.batch_size=2.5"], "data.batch_size=2.5: must be a whole number"),
        (["data.mirrors=3"], "data.mirrors=3: must be a list [a,b] or null"),
        (["optimizer.lr=fast"], "optimizer.lr=fast: must be a number"),
        (["optimizer.lr=nan"], "optimizer.lr=nan: must be a number above 0"),
        (["optimizer=null"], f"optimizer=null: there is no such choice; choose {' or '.join(OPTIMIZERS)}"),
        (["model=cnn", "model.channels=3"], "model.channels=3: must be a list of whole numbers [a,b]"),
        (["trainer.stop_at_threshold=maybe"], "trainer.stop_at_threshold=maybe: must be true or false"),
        (["data.root=${oc.env:NOT_THERE}"],
         "data.root=${oc.env:NOT_THERE}: \"Environment variable 'NOT_THERE' not found\""),
        (["seed=${nowhere}"], "seed=${nowhere}: Interpolation key 'nowhere' not found"),
        (["seed=${model.name}"], "seed=${model.name}: must be a whole number"),
        (["device=gpu"], "device=gpu: choose auto, cpu, cuda, cuda:N or mps"),
        (["num_threads=1.5"], "num_threads=1.5: must be auto or a whole number from 1 to 1,024"),
        (["num_threads=20000"], "num_threads=20000: must be auto or a whole number from 1 to 1,024"),
        (
            ["trainer.loss_threshold=1.4"],
            "trainer.loss_threshold=1.4: behind a softmax of 10 classes the loss cannot fall below 1.4612; "
            "choose a larger one, or model.head=logits",
        ),
        (
            ["trainer.loss_threshold=2.2", "model.num_classes=47"],
            "trainer.loss_threshold=2.2: behind a softmax of 47 classes the loss cannot fall below 2.8861; "
            "choose a larger one, or model.head=logits",
        ),
        (["-m", "model=mlp,rnn"],
         "model=rnn: there is no such choice; choose cnn or linear or mlp or mlp_logits or own"),
        (["-m", "seed=1,1"], "seed=1: 2 runs of this sweep are the same; name every value once"),
        (["-m", "seed=range(0)"], "this command has 0 runs: must be at least 1"),
        (["-m", "seed=interval(1,2)"], "seed=interval(1,2): has no list of values; use range(...), or tune"),
        (["seed=1,2"], "seed=1,2: several values are a sweep; add -m"),
        (["-m", "outputs=a,b"], "outputs=a,b: this holds for a whole sweep; give it one value"),
        (["-m", "outputs='o/${data.batch_size}'", "data.batch_size=1,2"],
         "outputs: o/1 and o/2 in one sweep; it holds for all runs, give it one value"),
        (["+foo=1"], "+foo=1: no key can be added; leave out the +"),
        (["~seed"], "~seed: no key can be removed; give it another value"),
        (["hydra.sweep.dir=x"], "hydra.sweep.dir=x: outputs=FOLDER says where sweeps land"),
        (["hydra.run.dir=x"], "hydra.run.dir=x: outputs=FOLDER says where sweeps land"),
        (["hydra/sweeper=basic"], "hydra/sweeper=basic: python -m digits_sweep.tune searches"),
        (["data.root=é"], "data.root=é: cannot be read as key=value; quote it, also for the shell: 'data.root=\"é\"'"),
        (["seed=a=b"], "seed=a=b: cannot be read as key=value; quote it, also for the shell: 'seed=\"a=b\"'"),
        (["-m", "data.batch_size=100,", "20,", "5"],
         "data.batch_size=100,: ends with a comma; a list of values has no space after its commas (key=1,2,3)"),
        (["-m", "20,"], "20,: is not key=value; a list of values has no space after its commas (key=1,2,3)"),
        (["seed=1\r"], "'seed=1\\r': ends with a carriage return, as lines of a Windows file do; remove it"),
        (["-m", "seed=0,1", "fail_fast=true", "hydra/launcher=submitit_local"],
         "fail_fast=true: hydra/launcher=submitit_local starts all runs at once; leave it out"),
        (["-m", "seed=0,1", "hydra/launcher=slurm", "hydra.launcher.runs_per_job=0"],
         "hydra.launcher.runs_per_job=0: must be auto or a whole number from 1 up"),
        (["-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.runs_per_job=2"],
         "hydra.launcher.runs_per_job=2: is for hydra/launcher=slurm; leave it out"),
        (["-m", "seed=0,1", "hydra/launcher=slurm", "hydra.launcher.nice=5"],
         "hydra.launcher.nice=5: this launcher has no such key; an option of sbatch is "
         "hydra.launcher.additional_parameters.nice=VALUE"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_key_value_and_what_would_be_right(refused, arguments, line):
    assert refused(*arguments) == line


@pytest.mark.parametrize("flag", ["--config-name=other", "--config-path=elsewhere", "--experimental-rerun", "-x"])
def test_a_flag_that_is_not_supported_is_refused_by_name(refused, flag):
    assert flag in refused(flag)


@pytest.mark.parametrize(
    "typed",
    [
        "seed=0,1 data.batch_size=5,20",
        "optimizer.lr=1e-3,1e-4 scaling=sqrt data.batch_size=5,500",
        "scaling=linear scaling.reference_batch_size=10,20 data.batch_size=5,500",
        "seed=3,4 trainer.num_epochs=${seed}",
        "optimizer=adam,sgd optimizer.lr=0.5,1e-3 trainer.num_epochs=1,2",
        "optimizer.lr=1,2 model.hidden_size=8,16",
    ],
)
def test_runs_that_are_composed_together_are_what_each_is_alone(typed):
    for run in plan(["-m", *typed.split()]).runs:
        (alone,) = plan(list(run.overrides)).runs
        assert run.config == alone.config


@pytest.mark.parametrize(
    ("launcher", "typed", "read"),
    [
        ("slurm", "hydra.launcher.additional_parameters.nice=5", {"nice": 5}),
        ("slurm", "+hydra.launcher.additional_parameters.nice=5", {"nice": 5}),
        ("slurm", "hydra.launcher.additional_parameters={nice:5,requeue:true}", {"nice": 5, "requeue": True}),
        ("ray", "hydra.launcher.ray.init.num_cpus=2", {"address": None, "num_cpus": 2}),
    ],
)
def test_an_option_that_only_a_site_knows_needs_no_plus(launcher, typed, read):
    pytest.importorskip({"slurm": "submitit", "ray": "hydra_plugins.hydra_ray_launcher"}[launcher])
    settings = plan(["-m", "seed=0,1", f"hydra/launcher={launcher}", typed]).hydra.launcher
    assert read == (settings.additional_parameters if launcher == "slurm" else settings.ray.init)


def test_what_a_text_suggests_can_be_typed():
    assert plan(['data.root="é"']).settings.data.root == "é"
    assert plan(['data.root="a=b"']).settings.data.root == "a=b"


def test_callbacks_of_hydras_are_refused_wherever_they_come_from(own_file, refused):
    mine = own_file("experiment", "mine", "# @package _global_\nhydra: {callbacks: {mine: {_target_: os.getcwd}}}\n")
    assert "callbacks are not called" in refused(*mine)
    assert "callbacks are not called" in refused("hydra.callbacks.x._target_=os.getcwd")


# A value of its own for every batch size.


def rates(*arguments: str) -> dict[str, float]:
    return {run.folder: run.config.optimizer.lr for run in plan(["-m", *arguments]).runs}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data.batch_size=100,20,5", "optimizer.lr={100:1e-3,5:1e-4,else:3e-4}"],
         {"batch_size=100": 1e-3, "batch_size=20": 3e-4, "batch_size=5": 1e-4}),
        # No value is needed for a batch size that no run has, and the order of the keys does not matter.
        (["optimizer.lr={100:1e-3,5:1e-4}", "data.batch_size=100,5"], {"batch_size=100": 1e-3, "batch_size=5": 1e-4}),
        (["data.batch_size=100,20", "optimizer.lr={100:1e-3,20:1e-4},2e-3"],
         {"batch_size=100_lr=0.001": 1e-3, "batch_size=100_lr=0.002": 2e-3,
          "batch_size=20_lr=1e-4": 1e-4, "batch_size=20_lr=0.002": 2e-3}),
    ],
)  # fmt: skip
def test_each_batch_size_has_its_rate_and_the_folders_have_the_numbers(arguments, expected):
    assert rates(*arguments) == expected


def test_any_key_may_have_a_value_for_every_batch_size():
    config = plan(["data.batch_size=5", "trainer.num_epochs={5:3,else:9}", "optimizer.betas={5:[0.8,0.9]}"]).settings
    assert (config.trainer.num_epochs, config.optimizer.betas) == (3, [0.8, 0.9])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer.lr={5:1e-4}", "optimizer.lr={5:0.0001}: has no value for batch size 20; add else:VALUE"),
        ("optimizer.lr={small:1e-4}", "optimizer.lr={small:0.0001}: give each batch size its value, such as "),
        ("data.batch_size={5:1}", "data.batch_size={5:1}: give each batch size its value, such as "),
        ("optimizer.lr={20:-1}", "optimizer.lr=-1: must be a number above 0"),
        ("optimizer.lr={20:fast}", "optimizer.lr={20:fast}: must be a number"),
    ],
)
def test_what_gives_no_value_for_the_batch_size_is_refused(refused, override, line):
    assert refused(override).startswith(line)


def test_a_wrong_value_in_a_file_of_the_users_is_refused_by_its_key(own_file, refused):
    slow = own_file("optimizer", "slow", "defaults: [adam, _self_]\nlr: fast\n")
    assert refused(*slow) == "optimizer.lr: must be a number"
