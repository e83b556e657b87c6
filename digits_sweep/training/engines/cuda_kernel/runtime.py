"""CUDA C compiled at run time, by the compiler that comes with PyTorch, and started on its streams."""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import cache
from pathlib import Path

import torch

from digits_sweep.errors import EngineRefused

# CUfunction_attribute: how much shared memory a block may be given when it starts.
MAX_DYNAMIC_SHARED = 8


def load_compiler() -> ctypes.CDLL:
    """Load CUDA's run-time compiler, of the version that PyTorch is built with. Raises `EngineRefused` without it."""
    return _load(f"libnvrtc.so.{str(torch.version.cuda).split('.')[0]}", "CUDA's run-time compiler")


def load_driver() -> ctypes.CDLL:
    """Load the GPU's driver. Raises `EngineRefused` if there is none."""
    return _load("libcuda.so.1", "NVIDIA's driver")


@cache
def _load(name: str, what: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as missing:
        raise EngineRefused(f"it needs {what} ({missing})") from missing


class Kernel:
    """One kernel on one device, of which every block has `shared` bytes of shared memory."""

    def __init__(self, code: bytes, name: str, shared: int, device: torch.device) -> None:
        self.driver, self.shared, self.device = load_driver(), shared, device
        # The device's own context, the one that PyTorch computes in, is current from its first operation on.
        with torch.cuda.device(device):
            torch.empty(1, device=device)
            module, self.function = c_void_p(), c_void_p()
            self._check(self.driver.cuModuleLoadData(byref(module), code))
            self._check(self.driver.cuModuleGetFunction(byref(self.function), module, name.encode()))
            self._check(self.driver.cuFuncSetAttribute(self.function, c_int(MAX_DYNAMIC_SHARED), c_int(shared)))

    def __call__(self, blocks: int, threads: int, argument: ctypes.Structure) -> None:
        """Start it after whatever PyTorch has started on this device. Whatever `argument` points to must be kept."""
        with torch.cuda.device(self.device):
            arguments = (c_void_p * 1)(ctypes.addressof(argument))
            sizes = [c_uint(size) for size in (blocks, 1, 1, threads, 1, 1, self.shared)]
            stream = c_void_p(torch.cuda.current_stream().cuda_stream)
            self._check(self.driver.cuLaunchKernel(self.function, *sizes, stream, arguments, None))

    def _check(self, error: int) -> None:
        if error:
            text = c_char_p()
            self.driver.cuGetErrorString(error, byref(text))
            raise RuntimeError(f"CUDA: {(text.value or b'error').decode()}")


@cache
def compiled(source: Path, capability: tuple[int, int], options: Sequence[str]) -> bytes:
    """Compile the file `source`, CUDA C, for GPUs of this capability; what it includes lies beside it.

    Raises `EngineRefused` with the compiler's message.
    """
    compiler = load_compiler()
    given = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}", "--std=c++17", "-ftz=true", *options]
    given.append(f"--include-path={source.parent}")
    program = c_void_p()
    compiler.nvrtcCreateProgram(byref(program), source.read_bytes(), source.name.encode(), 0, None, None)
    try:
        lines = (c_char_p * len(given))(*(each.encode() for each in given))
        if compiler.nvrtcCompileProgram(program, len(given), lines):
            log = _bytes_of(compiler.nvrtcGetProgramLogSize, compiler.nvrtcGetProgramLog, program)
            raise EngineRefused(f"CUDA's compiler ended with {log.rstrip(bytes(1)).decode(errors='replace')}")
        return _bytes_of(compiler.nvrtcGetCUBINSize, compiler.nvrtcGetCUBIN, program)
    finally:
        compiler.nvrtcDestroyProgram(byref(program))


def _bytes_of(size_of: Callable[..., object], copy: Callable[..., object], program: c_void_p) -> bytes:
    size = c_size_t()
    size_of(program, byref(size))
    room = ctypes.create_string_buffer(size.value)
    copy(program, room)
    return room.raw
