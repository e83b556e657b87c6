"""What all tests stand on: an empty home, real digits, the program as a user starts it, and a browser."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import settings

from tests.commands import Program
from tests.mirror import load_mnist

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
HOME = {
    "HOME": ".",
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}


def pytest_configure(config: pytest.Config) -> None:
    """Give the session an empty home: nothing that lies in somebody's own makes a test pass here and fail elsewhere."""
    if hasattr(config, "workerinput"):
        # The process that started this one has made the home of both.
        return
    # How packages are to be had is the machine's business.
    if pip := _pip_configuration():
        os.environ.setdefault("PIP_CONFIG_FILE", str(pip))
    home = Path(tempfile.mkdtemp(prefix="home_"))
    os.environ.update({name: str(home / folder) for name, folder in HOME.items()})
    # Workers have more threads than there are cores: one that waits is to sleep, not to spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # As in an environment that is activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def _pip_configuration() -> Path | None:
    folders = (os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"), Path.home())
    files = (Path(folder, name, "pip.conf") for folder, name in zip(folders, ("pip", ".pip"), strict=True))
    return next((path for path in files if path.exists()), None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what is looked at in a browser, and most cases of tables that are `sampled`, to `make test-all`."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.full)
    for _, cases in groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        for place, case in enumerate(cases):
            sampled = case.get_closest_marker("sampled")
            if sampled and place % sampled.args[0]:
                case.add_marker(pytest.mark.full)


# How long an example takes says more about the machine, and who else uses it, than about the program. `make test` looks
# at other examples every time; CI judges a change, by examples that only a change of the test changes.
settings.register_profile("fresh_examples", deadline=None)
settings.register_profile("same_examples", deadline=None, derandomize=True)
settings.load_profile("fresh_examples")

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
    root = tmp_path_factory.mktemp("mnist")
    load_mnist(root, mnist_archives.as_uri())
    return root


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window, for pages as a reader has them."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not CHROMIUM or not DRIVER:
        pytest.skip("pages are looked at if chromium and chromedriver are installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as driver:
        yield driver


@pytest.fixture
def open_path(browser):
    """A page, opened from its file at a width and in a theme."""

    def opened(path, width: int = 1280, theme: str = "light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(path.as_uri())
        return browser

    return opened
