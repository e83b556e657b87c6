"""The engine in C under the compiler's sanitizers: addresses, and what C leaves undefined."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from digits_sweep.training.engines.native import NativeEngine
from tests.workloads import ADAM, workload

needs_compiler = pytest.mark.skipif(
    NativeEngine.refusal(workload().model, ADAM, torch.device("cpu")) is not None, reason="there is no C compiler"
)

TRAINING = """
import torch
from tests.training.engines.test_native import OPTIMIZERS, digits_like, trained
for scale in ("unit", "standard"):
    for batch_size in (1, 7, 150):
        for hidden_size, hidden_layers, head in ((33, 3, "softmax"), (1, 1, "logits")):
            shape = {"hidden_size": hidden_size, "hidden_layers": hidden_layers, "head": head}
            for threads, optimizer in zip((1, 3, 1, 3), OPTIMIZERS.values()):
                given = digits_like(160, batch_size, scale=scale, optimizer=optimizer, **shape)
                losses, _ = trained("native", given, threads=threads)
                assert losses.isfinite().all()
print("trained")
"""


@needs_compiler
@pytest.mark.full
def test_nothing_outside_its_memory_is_touched_and_nothing_undefined_is_done(monkeypatch):
    checks = "-fsanitize=address,undefined"
    runtimes = [
        subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(Path(each).is_absolute() for each in runtimes):
        pytest.skip("this compiler has no sanitizers")
    monkeypatch.setenv("CC", f"cc {checks} -fno-sanitize-recover=all -fno-omit-frame-pointer")
    monkeypatch.setenv("LD_PRELOAD", " ".join(runtimes))
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")
    finished = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (0, "trained\n"), finished.stderr
