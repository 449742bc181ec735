import numpy as np
import pytest

from data.scannet import NUM_NYU40
from data.scenes import FORMAT_VERSION, Scene, write_manifest, write_scene


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A preprocessed data set: 3 training, 2 validation and 1 unlabelled test scene, each one small room."""
    folder = tmp_path_factory.mktemp("tiny_data")
    splits = {"train": ["room0_00", "room1_00", "room2_00"], "val": ["room3_00", "room4_00"], "test": ["room5_00"]}
    (folder / "scenes").mkdir()
    entries = {}
    for seed, name in enumerate(name for names in splits.values() for name in names):
        scene = _room(name, seed, labelled=name not in splits["test"])
        write_scene(folder / "scenes" / f"{name}.h5", scene)
        histogram = np.bincount(scene.nyu40, minlength=NUM_NYU40) if scene.nyu40 is not None else np.zeros(NUM_NYU40)
        entries[name] = {
            "file": f"scenes/{name}.h5",
            "vertices": len(scene.xyz),
            "labelled": scene.nyu40 is not None,
            "sha256": "",
            "nyu40_histogram": histogram.astype(int).tolist(),
        }
    write_manifest(
        folder,
        {
            "format_version": FORMAT_VERSION,
            "splits": splits,
            "expected": {split: len(names) for split, names in splits.items()},
            "failed": {},
            "scenes": entries,
        },
    )
    return folder


def _room(name, seed, labelled):
    """Floor, a wall, a table, unannotated clutter and a ceiling (nyu40 2, 1, 7, 0, 22)."""
    rng = np.random.default_rng(seed)
    nyu40 = rng.choice(np.array([2, 1, 7, 0, 22], dtype=np.uint8), size=5_000, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    xyz = (rng.random((5_000, 3)) * (2.2, 1.8, 2.2)).astype(np.float32)
    xyz[nyu40 == 2, 2] = 0
    xyz[nyu40 == 1, 0] = 0
    xyz[nyu40 == 22, 2] = 2.2
    table = nyu40 == 7
    xyz[table] = xyz[table] * np.float32([0.4, 0.4, 0]) + np.float32([0.8, 0.6, 0.75])
    return Scene(name, xyz, nyu40 if labelled else None, np.full((5_000, 3), 128, np.uint8))
