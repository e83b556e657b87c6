"""What `python -m digits_sweep --help` prints: examples, the groups with their choices, and the keys as they stand."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from digits_sweep.config.compose import CONF, Composer, read_command_line
from digits_sweep.config.hydra_errors import explained

TEXT = """\
digits_sweep: if I change the batch size, how long does an epoch take,
and after how many epochs is the loss below 1.6?

Examples
  python -m digits_sweep -m data.batch_size=100,20,5
  python -m digits_sweep -m experiment=lesson
  python -m digits_sweep -m data.batch_size=100 seed=0,1,2 model=mlp,mlp_logits trainer.num_epochs=5

Groups and their choices (group=choice; several trackers: tracker=[tensorboard,mlflow])
{groups}

Keys (key=value), as this command line sets them
{keys}
What every key means: docs/reference.md. Flags: -m runs a sweep, --cfg job shows the configuration
with its numbers resolved, --info plugins lists launchers, --hydra-help shows the rest."""


def help_text(arguments: Sequence[str]) -> str:
    """Return the help for a command line, whose overrides are in the keys that it shows.

    Raises `InvalidConfig` with key, value and what would be right if an override is wrong.
    """
    line = read_command_line(arguments)
    with Composer(line.config_dirs) as composer, explained(line.overrides, composer):
        typed = [composer.parse(text) for text in line.overrides]
        keys = composer.composed([each for each in typed if not each.is_sweep_override()]).config
    groups = "\n".join(_groups([CONF, *map(Path, line.config_dirs)]))
    return TEXT.format(groups=groups, keys=OmegaConf.to_yaml(keys))


def _groups(folders: Sequence[Path]) -> Iterator[str]:
    """Yield a line a group. Read from the folders: Hydra composes anew for each group that it is asked for."""
    choices: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.glob("[!.]*/**/*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group.partition("/")[0] != "hydra":
                choices.setdefault(group, set()).add(file.stem)
    for group in sorted(choices):
        yield f"{group}: {', '.join(sorted(choices[group]))}"
