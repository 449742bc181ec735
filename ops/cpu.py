"""Compiles the C++ of this folder with the system's compiler at first use, caches it and calls it through ctypes.

The library lies in $XDG_CACHE_HOME/latentgnn-scannet (default ~/.cache/latentgnn-scannet) under a name made of two
hashes: of everything that decides its content (source, flags, compiler, processor), and of the content itself. So a
damaged file is noticed before it is loaded, and processes that compile at the same time each put a whole file there.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

SOURCES = [Path(__file__).with_name(name) for name in ("cpu.cpp", "rows.cpp")]
HEADERS = [Path(__file__).with_name("threads.h")]
# -ffp-contract=off: a fused multiply-add rounds once instead of twice, and a tie would be broken elsewhere.
# -fno-trapping-math: no result changes, but loops with a condition on floats can be vectorised.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-shared", "-fPIC", "-pthread"]
NATIVE = "-march=native"
DEVICE = "cpu"  # of the tensors that the kernels take
COMPILE_TIMEOUT = 120  # seconds; it takes a few

_library = None
_origin = ""


class CompileError(Exception):
    """The kernels cannot be had on this machine; the message says why in one line."""


def load() -> str:
    """Make the kernels ready, compiling them if need be; returns where they came from. Raises CompileError."""
    global _library, _origin
    if _library is None:
        try:
            _library, _origin = _load()
        except OSError as error:  # a full disk, say
            raise CompileError(f"the kernels cannot be compiled or loaded: {error}") from error
    return _origin


def _load():
    compiler = _compiler()
    version = (_run([*compiler, "--version"]).splitlines() or ["unknown version"])[0]
    decides = [*(path.read_text() for path in SOURCES + HEADERS), *FLAGS, NATIVE, *compiler, version, _processor()]
    key = hashlib.sha256("\0".join(decides).encode()).hexdigest()[:16]
    cache = _cache_dir()
    if cache is None:  # a fresh private folder: a shared one could hold somebody else's library
        with tempfile.TemporaryDirectory() as folder:
            library = ctypes.CDLL(str(_compile(compiler, Path(folder), key)))
        return library, f"C++, {version}, compiled: no cache folder is writable"
    for path in cache.glob(f"ops-{key}-*.so"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster to remove it
            if path.name == _name(key, path.read_bytes()):
                return ctypes.CDLL(str(path)), f"C++, {version}, cached"
            path.unlink()
    return ctypes.CDLL(str(_compile(compiler, cache, key))), f"C++, {version}, compiled"


def _compiler() -> list[str]:
    """$CXX, which may hold arguments, or the first of c++, g++, clang++ on the path."""
    asked = os.environ.get("CXX")
    candidates = [shlex.split(asked)] if asked else [["c++"], ["g++"], ["clang++"]]
    for command in candidates:
        if command and shutil.which(command[0]):
            return command
    raise CompileError(f"no C++ compiler found (tried {', '.join(shlex.join(c) for c in candidates)})")


def _run(command: list) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_TIMEOUT).stdout
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or f"exit status {error.returncode}").splitlines()[0]
        raise CompileError(f"{command[0]} failed: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{command[0]} failed: {error}") from error


def _processor() -> str:
    """What -march=native looks at: a cache in a shared home folder serves machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}))


def _cache_dir() -> Path | None:
    """The folder for compiled kernels, made if absent; None if it cannot be made or written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentgnn-scannet"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None


def _name(key: str, content: bytes) -> str:
    return f"ops-{key}-{hashlib.sha256(content).hexdigest()[:16]}.so"


def _compile(compiler: list[str], folder: Path, key: str) -> Path:
    """Compile to a temporary name in folder, then rename to the final one."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / "ops.so"
        command = [*compiler, *FLAGS, *map(str, SOURCES), "-o", str(built)]
        try:
            _run([*command, NATIVE])
        except CompileError:  # some compilers refuse -march=native
            _run(command)
        return built.replace(folder / _name(key, built.read_bytes()))


def call(function: str, *arguments) -> None:
    """Run a kernel; ctypes lets go of the GIL meanwhile. Contiguous tensors are passed as pointers to their first
    element, None as a null pointer; the number of threads comes last. Raises MemoryError, and CompileError at first."""
    load()
    if _entry(_library, function)(*map(_c_value, arguments), ctypes.c_int64(torch.get_num_threads())):
        raise MemoryError(f"{function}: no memory for working arrays")


@functools.cache
def _entry(library: ctypes.CDLL, name: str):
    """The function of that name, or that a pointer of that name points to: those of rows.cpp are templates."""
    if name.startswith("batch_"):
        return getattr(library, name)
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.c_void_p.in_dll(library, name).value)


def _c_value(value):
    if value is None or isinstance(value, torch.Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)


def furthest_point_sample(xyz, m):
    xyz = xyz.contiguous()
    B, N, _ = xyz.shape
    index = xyz.new_empty(B, m, dtype=torch.int64)
    call("batch_furthest_point_sample", xyz, B, N, m, index)
    return index


def ball_query(radius, nsample, xyz, centres):
    xyz, centres = xyz.contiguous(), centres.contiguous()
    B, N, _ = xyz.shape
    M = centres.shape[1]
    index = xyz.new_empty(B, M, nsample, dtype=torch.int64)
    call("batch_ball_query", xyz, centres, B, N, M, radius, nsample, index)
    return index


def three_nn(unknown, known):
    unknown, known = unknown.contiguous(), known.contiguous()
    B, N, _ = unknown.shape
    M = known.shape[1]
    distance, index = unknown.new_empty(B, N, 3), unknown.new_empty(B, N, 3, dtype=torch.int64)
    call("batch_three_nn", unknown, known, B, N, M, distance, index)
    return distance, index
