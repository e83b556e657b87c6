"""What the tests of planning share: a refusal as text, and a configuration folder of the user's."""

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig


@pytest.fixture
def refused():
    """Plans what must not be planned; returns why."""

    def why(*arguments: str) -> str:
        with pytest.raises(InvalidConfig) as refusal:
            plan(arguments)
        return str(refusal.value)

    return why


@pytest.fixture
def own_file(tmp_path):
    """Writes a file of a configuration folder of the user's; returns what chooses it."""

    def written(group: str, name: str, text: str) -> list[str]:
        (tmp_path / "own" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / group / f"{name}.yaml").write_text(text)
        return [f"--config-dir={tmp_path / 'own'}", f"{group}={name}"]

    return written
