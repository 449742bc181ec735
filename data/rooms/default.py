"""The default data: generated rooms, made and preprocessed where a command is given no others."""

from pathlib import Path

from data.preprocessing import INTERRUPTED
from data.rooms.dataset import make_dataset
from data.rooms.raw_layout import TABLE
from data.scannet import preprocess_scans
from data.scenes import MANIFEST, SceneError

SCANS, DATA = Path("datasets/synthetic_scans"), Path("datasets/synthetic")
WORKERS = 2  # processes; the bytes do not depend on it


def default_rooms() -> Path:
    """The folder of the preprocessed rooms, which are made at the first call. Raises SceneError if they cannot be."""
    if not (DATA / MANIFEST).exists():
        print(f"no --data: making synthetic rooms in {DATA} (once)")
        try:
            make_dataset(SCANS, workers=WORKERS)
        except (ValueError, OSError) as error:
            raise SceneError(f"{SCANS}: the synthetic rooms could not be made ({error})") from error
        table, splits = SCANS / TABLE, SCANS / "splits"
        status = preprocess_scans(SCANS, DATA, table, splits, WORKERS)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            raise SceneError(f"{SCANS}: the synthetic rooms could not be preprocessed; delete the folder and try again")
    return DATA
