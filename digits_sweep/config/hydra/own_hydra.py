"""Hydra for this program alone, in a process in which another may use Hydra too, such as a notebook."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from packaging.version import Version

# Hydra's state is that of the whole process: one thread composes at a time.
ONE_AT_A_TIME = threading.RLock()


@contextmanager
def own_hydra(config_dir: str) -> Iterator[ConfigLoader]:
    """Initialize Hydra with the configuration in `config_dir` for the block; then it is as another program had it.

    If no other program has chosen the version that Hydra behaves like, it stays the one that Hydra's launchers need.
    """
    with ONE_AT_A_TIME:
        of_another, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        version_base = VersionBase.instance().version_base
        try:
            with initialize_config_dir(config_dir=config_dir, version_base="1.3"):
                yield GlobalHydra.instance().config_loader()
        finally:
            GlobalHydra.instance().hydra = of_another
            if isinstance(version_base, Version):
                VersionBase.instance().version_base = version_base
