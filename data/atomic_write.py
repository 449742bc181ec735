"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, kept_as: Path | None = None) -> Iterator[Path]:
    """A temporary name beside `path` to write to; the file is renamed to `path` in the end, or removed on an error.

    What it replaces is renamed to `kept_as`, where that is given. Both names are on the disk when this returns.
    What has the temporary name, of a writer that was killed, is removed first; a symlink there is never followed, and
    one at `path` is replaced itself. Two writers of one path at a time are not provided for.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if kept_as and path.exists():
            os.replace(path, kept_as)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system can flush a folder; the files are whole without it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
