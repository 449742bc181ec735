"""What Linux says of a process's resident memory."""

import sys
from pathlib import Path

NOW, PEAK, OWN = "VmRSS", "VmHWM", "RssAnon"  # entries of /proc/<pid>/status, proc(5); OWN: without mapped files


def megabytes(entry: str, pid: int | str = "self") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 1e3


def reset_peak() -> None:
    """`peak` counts from here."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)


def peak() -> float | None:
    """The most resident memory of this process since the reset, in MB; None where it is not known."""
    return megabytes(PEAK) if sys.platform == "linux" else None
