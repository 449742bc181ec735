"""Training and evaluation as processes of their own, started with a fault."""

import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("with_fault.py")
NO_FAULT = ""
KILLED = -signal.SIGKILL
FAILS_WITHIN = 120  # seconds, of which torchrun gives its other processes 30 to end


def start(script: str, fault: str, ranks: int, *flags: object) -> subprocess.Popen:
    """A process group of its own: with_fault.py, or torchrun with so many of it."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    return subprocess.Popen(
        [sys.executable, *torchrun, str(SCRIPT), script, fault, *map(str, flags), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """Waits for its end and that of all that hold its pipes, loader processes too, and says how it was."""
    try:
        stdout, stderr = process.communicate(timeout=FAILS_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        raise AssertionError(f"it hung\n{stdout}\n{stderr}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
