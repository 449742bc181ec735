"""What a network says of each vertex of a scan, as a file: NPZ, written in parts, so that it is never whole in memory.

V vertices, n of them with finite coordinates, k rows of logits, C classes.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from data.atomic_write import replacing
from data.labels import LabelSpace

VERTICES = 2**16  # at a time
ARRAYS = ("ids", "names", "temperature", "logits")


def write_logits(
    path: Path, logits: np.ndarray, row: np.ndarray, seen: np.ndarray, space: LabelSpace, temperature: float
) -> None:
    """Write `logits` (V, C) float32, NaN for vertices that were not seen; `ids` (C,), `names` (C,), `temperature`.

    softmax(logits / temperature) are the probabilities of which the confidence is one. Column 0: none of the classes.
    Args: logits (k, C); row (n,) whose logits are those of each vertex that is seen (V,) bool.
    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    of_vertex = np.full(len(seen), -1)
    of_vertex[seen] = row
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in zip(ARRAYS[:3], (space.id_of, np.array(space.names), temperature), strict=True):
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())  # of no date: equal runs, equal bytes
        with archive.open(zipfile.ZipInfo("logits.npy"), "w", force_zip64=True) as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(seen), logits.shape[1])}
            np.lib.format.write_array_header_1_0(stream, header)
            for start in range(0, len(seen), VERTICES):
                rows = of_vertex[start : start + VERTICES]
                part = logits[rows].astype("<f4")
                part[rows < 0] = np.nan
                stream.write(part.tobytes())


def is_logits(path: Path) -> bool:
    """Whether a file is one of `write_logits`; False if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {*archive.namelist()} == {f"{name}.npy" for name in ARRAYS}
    except (OSError, zipfile.BadZipFile):
        return False
