"""What Linux says of a process's resident memory."""

from pathlib import Path

NOW, PEAK = "VmRSS", "VmHWM"  # entries of /proc/<pid>/status, proc(5)


def megabytes(entry: str, pid: int | str = "self") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 1e3
