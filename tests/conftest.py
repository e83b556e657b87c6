"""What several tests need: real digits, and the program as a user starts it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

# How long an example takes says more about the machine, and who else uses it, than about the program.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# A shell starts what runs in the background deaf to Ctrl-C, and all that this starts in turn. The tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def denormals_as_they_were() -> Iterator[None]:
    """Denormals are a setting of the whole thread: what an engine does to them is not for the next test."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def mnist_archives() -> Path:
    """The folder with the four MNIST archives that DIGITS_SWEEP_TEST_MNIST names."""
    folder = os.environ.get("DIGITS_SWEEP_TEST_MNIST")
    if folder is None:
        pytest.skip("set DIGITS_SWEEP_TEST_MNIST to a folder with the four MNIST archives")
    return Path(folder)


@pytest.fixture(scope="session")
def mnist_root(mnist_archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data.root that MNIST has been unpacked into."""
    from digits_sweep.data.mnist import load_mnist

    root = tmp_path_factory.mktemp("mnist")
    load_mnist(root, [mnist_archives.as_uri()], timeout_seconds=10, report=lambda line: None)
    return root


class Program:
    """`python -m digits_sweep` in a folder of its own, as a user would start it, its output piped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"

    def __call__(
        self, *arguments: str, module: str = "digits_sweep", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)

    def sweeps(self) -> list[Path]:
        return sorted((self.outputs / "sweeps").glob("*"))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window, for pages as a reader has them."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not CHROMIUM or not DRIVER:
        pytest.skip("pages are looked at where chromium and chromedriver are installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as driver:
        yield driver
