import hashlib
import json
import time

import h5py
import numpy as np
import pytest

from data.scenes import FIELDS, Scene, SceneError, read_manifest, read_scene, write_manifest, write_scene

ALL = tuple(FIELDS)


def make_scene(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "name": "scene0000_00",
        "xyz": rng.normal(size=(40, 3)).astype(np.float32),
        "nyu40": rng.integers(0, 41, 40).astype(np.uint8),
        "colour": rng.integers(0, 256, (40, 3)).astype(np.uint8),
        "normal": rng.normal(size=(40, 3)).astype(np.float32),
        "faces": rng.integers(0, 40, (60, 3)).astype(np.int32),
        "source": "abc",
    }
    return Scene(**(fields | changes))


def assert_same(scene, other, fields=ALL):
    assert (scene.name, scene.source) == (other.name, other.source)
    for field in fields:
        expected, found = getattr(scene, field), getattr(other, field)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_round_trip(tmp_path):
    scene = make_scene()
    write_scene(tmp_path / "a.h5", scene)
    assert_same(scene, read_scene(tmp_path / "a.h5", ALL))


def test_fields_not_asked_for_or_absent_are_none(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene(nyu40=None, faces=None, normal=None, source=""))
    scene = read_scene(tmp_path / "a.h5")
    assert (scene.xyz.shape, scene.source) == ((40, 3), "")
    assert scene.nyu40 is scene.colour is scene.faces is None
    assert read_scene(tmp_path / "a.h5", ["faces"]).faces is None


def test_no_faces_at_all(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene(faces=np.zeros((0, 3), np.int32)))
    assert read_scene(tmp_path / "a.h5", ALL).faces.shape == (0, 3)


def test_equal_scenes_are_equal_bytes_and_nothing_else_is_left(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene())
    time.sleep(1.1)  # HDF5's times are in seconds
    write_scene(tmp_path / "b.h5", make_scene())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    write_scene(tmp_path / "b.h5", make_scene(source="other"))
    assert (tmp_path / "a.h5").read_bytes() != (tmp_path / "b.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_attributes_and_checksums(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene())
    with h5py.File(tmp_path / "a.h5") as file:
        assert [dataset.fletcher32 for dataset in file.values()] == [True] * 5
        assert dict(file.attrs) == {"format_version": 1, "name": b"scene0000_00", "vertices": 40, "source": b"abc"}


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    write_scene(path, make_scene())
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    def full_disk(fd):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_scene(path, make_scene(source="new"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyz": None}, "no 'xyz'"),
        ({"colour": None}, "no 'colour'"),
        ({"xyz": np.zeros((40, 3))}, "'xyz' is float64, not float32"),
        ({"xyz": np.full((40, 3), np.nan, np.float32)}, "'xyz' holds NaN"),
        ({"nyu40": np.full(40, 41, np.uint8)}, "'nyu40' holds 41"),
        ({"nyu40": np.zeros(39, np.uint8)}, "39 rows for 40 vertices"),
        ({"nyu40": np.zeros((40, 1), np.uint8)}, "shape"),
        ({"faces": np.full((2, 3), 40, np.int32)}, "vertices 40 to 40 of 40"),
        ({"faces": np.full((2, 3), -1, np.int32)}, "vertices -1 to -1 of 40"),
        ({"faces": np.zeros((2, 4), np.int32)}, "shape"),
        (dict.fromkeys(("nyu40", "normal", "faces")) | {"xyz": np.zeros((0, 3), np.float32)}, "no vertices"),
    ],
)
def test_write_refuses(tmp_path, changes, message):
    with pytest.raises(SceneError, match=f"a.h5: not written, .*{message}"):
        write_scene(tmp_path / "a.h5", make_scene(**changes))
    assert not list(tmp_path.iterdir())


def replace_dataset(field, array):
    def spoil(file):
        del file[field]
        file[field] = array

    return spoil


def delete(field):
    return lambda file: file.__delitem__(field)


def set_attribute(key, value):
    return lambda file: file.attrs.__setitem__(key, value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (set_attribute("format_version", 2), "has format version 2, this code reads version 1"),
        (lambda file: file.attrs.__delitem__("format_version"), "damaged or no scene file"),
        (set_attribute("format_version", [1, 1]), "run scripts/preprocess_scannet.py"),
        (set_attribute("name", 5), "damaged or no scene file"),
        (set_attribute("vertices", 41), "40 rows for 41 vertices"),
        (set_attribute("vertices", -1), "40 rows for -1 vertices"),
        (delete("xyz"), "there is no 'xyz'"),
        (delete("normal"), "there is no 'normal' .--normals makes it"),
        (replace_dataset("xyz", np.zeros((40, 3), np.float64)), "'xyz' is float64, not float32"),
        (replace_dataset("xyz", np.zeros((40, 2), np.float32)), "'xyz' has shape"),
        (replace_dataset("xyz", np.float32(0)), "'xyz' has shape"),
        (replace_dataset("xyz", np.full((40, 3), np.inf, np.float32)), "'xyz' holds NaN or inf"),
        (replace_dataset("nyu40", np.zeros(40, np.int64)), "'nyu40' is int64, not uint8"),
        (replace_dataset("nyu40", np.full(40, 255, np.uint8)), "'nyu40' holds 255, not 0 to 40"),
        (replace_dataset("faces", np.full((1, 3), 99, np.int32)), "vertices 99 to 99 of 40"),
        (replace_dataset("colour", h5py.SoftLink("/nowhere")), "damaged or no scene file"),
        (lambda file: (delete("xyz")(file), file.create_group("xyz")), "damaged or no scene file"),
    ],
)
def test_read_refuses_another_schema(tmp_path, spoil, message):
    path = tmp_path / "a.h5"
    write_scene(path, make_scene())
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(SceneError, match=message) as caught:
        read_scene(path, ALL)
    assert str(path) in str(caught.value) and "run scripts/preprocess_scannet.py" in str(caught.value)


def test_missing_truncated_or_not_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(SceneError, match="no such scene file; run scripts"):
        read_scene(path)
    write_scene(path, make_scene())
    whole = path.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SceneError, match="truncated, damaged or no scene file"):
            read_scene(path)
    path.write_bytes(b"not an HDF5 file" * 100)
    with pytest.raises(SceneError, match="no scene file"):
        read_scene(path)


def test_flipped_bytes_are_noticed(tmp_path):
    """Data, attributes and HDF5's own structures alike; only a gap between blocks, which nobody reads, may change."""
    path = tmp_path / "a.h5"
    scene = make_scene()
    write_scene(path, scene)
    whole = path.read_bytes()
    unnoticed = 0
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            assert_same(scene, read_scene(path, ALL))
            assert whole[position] == 0
            unnoticed += 1
        except SceneError:
            pass
    assert unnoticed < len(whole) / 5 / 4


# The manifest


def make_manifest():
    scene = {
        "file": "scenes/room-1.h5",
        "vertices": 3,
        "labelled": True,
        "sha256": "0" * 64,
        "nyu40_histogram": [3] + [0] * 40,
    }
    return {
        "format_version": 1,
        "splits": {"train": ["room-1"], "val": [], "test": []},
        "expected": {"train": 1201, "val": 312, "test": 100},
        "failed": {"room-2": "why"},
        "scenes": {"room-1": scene},
    }


def test_manifest_round_trip(tmp_path):
    write_manifest(tmp_path, make_manifest())
    assert read_manifest(tmp_path) == make_manifest()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m.update(format_version=2), "format version 2"),
        (lambda m: m.pop("splits"), "entries are missing"),
        (lambda m: m["splits"].pop("val"), "entries are missing"),
        (lambda m: m["splits"].update(val=["elsewhere"]), "entries are missing.*elsewhere"),
        (lambda m: m["splits"].update(val=3), "of a wrong type"),
        (lambda m: m["expected"].update(val="x"), "of a wrong type"),
        (lambda m: m.pop("failed"), "entries are missing"),
        (lambda m: m["scenes"]["room-1"].update(file="/etc/passwd"), "names the file '/etc/passwd'"),
        (lambda m: m["scenes"]["room-1"].update(nyu40_histogram=[3]), "histogram"),
        (lambda m: m["scenes"]["room-1"].update(vertices=4), "histogram"),
        (
            lambda m: (
                m["splits"].update(val=["../x"]),
                m["scenes"].update({"../x": m["scenes"]["room-1"] | {"file": "scenes/../x.h5"}}),
            ),
            "names the file 'scenes/../x.h5'",
        ),
    ],
)
def test_manifest_refused(tmp_path, spoil, message):
    manifest = make_manifest()
    spoil(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SceneError, match=message) as caught:
        read_manifest(tmp_path)
    assert f"run scripts/preprocess_scannet.py --scans DIR --out {tmp_path}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "wrong type"),
        ("\xff", "cannot"),
    ],
)
def test_manifest_unreadable(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(SceneError, match=message):
        read_manifest(tmp_path)
