import hashlib
import json
import multiprocessing
import os
import time
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from data import scenes
from data.labels import SCANNET20
from data.scenes import FIELDS, FILTERS, Scene, SceneError, read_manifest, read_scene, write_manifest, write_scene

ALL = tuple(FIELDS)
NEEDS_HDF5_2 = pytest.mark.skipif(h5py.version.hdf5_version_tuple < (2, 0, 0), reason="HDF5 before 2.0 cannot write it")


def make_scene(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "name": "scene0000_00",
        "xyz": rng.normal(size=(40, 3)).astype(np.float32),
        "label": rng.integers(0, 41, 40).astype(np.uint16),
        "colour": rng.integers(0, 256, (40, 3)).astype(np.uint8),
        "normal": rng.normal(size=(40, 3)).astype(np.float32),
        "faces": rng.integers(0, 40, (60, 3)).astype(np.int32),
        "intensity": np.linspace(0, 1, 40, dtype=np.float32),
    }
    return Scene(**(fields | changes))


def assert_same(scene, other, fields=ALL):
    assert scene.name == other.name
    for field in fields:
        expected, found = getattr(scene, field), getattr(other, field)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_round_trip(tmp_path):
    scene = make_scene()
    write_scene(tmp_path / "a.h5", scene)
    assert_same(scene, read_scene(tmp_path / "a.h5", ALL))


@pytest.mark.parametrize("library", ["1.14.2", "2.0.0"])
def test_files_of_other_libraries(library):
    """make_scene() without faces and normals, as h5py 3.10 and h5py 3.16 wrote it in format 1."""
    found = read_scene(Path(__file__).parent / "files" / f"scene_hdf5_{library}.h5", None)
    assert_same(make_scene(), found, ("xyz", "label", "colour"))
    assert found.label.dtype == np.uint16 and found.intensity is found.normal is found.faces is None


def test_fields_not_asked_for_or_absent_are_none(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene(label=None, faces=None, normal=None))
    scene = read_scene(tmp_path / "a.h5")
    assert scene.xyz.shape == (40, 3)
    assert scene.label is scene.colour is scene.faces is None
    assert read_scene(tmp_path / "a.h5", ["faces"]).faces is None


def test_a_scan_without_colours(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene(colour=None))
    assert read_scene(tmp_path / "a.h5", None).colour is None
    with pytest.raises(SceneError, match="no 'colour'.*without --features colour"):
        read_scene(tmp_path / "a.h5", ["colour"])


def test_all_fields_and_the_offset(tmp_path):
    scene = make_scene(offset=np.array([450_000.0, 5_411_932.0, 0.0]))
    write_scene(tmp_path / "a.h5", scene)
    found = read_scene(tmp_path / "a.h5", None)
    assert_same(scene, found)
    assert found.offset.dtype == np.float64
    np.testing.assert_array_equal(found.offset, scene.offset)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["offset"] = np.array([0, np.nan, 0])
    with pytest.raises(SceneError, match="offset"):
        read_scene(tmp_path / "a.h5")


def test_what_cannot_be_read_back_is_not_written(tmp_path, monkeypatch):
    """As an HDF5 library may do it whose own checksums do not hold."""
    make = scenes._file_image

    def stale(*arguments):
        content = bytearray(make(*arguments))
        content[44] ^= 255  # of the superblock's checksum
        return bytes(content)

    write_scene(tmp_path / "a.h5", make_scene())
    before = (tmp_path / "a.h5").read_bytes()
    monkeypatch.setattr(scenes, "_file_image", stale)
    with pytest.raises(SceneError, match="a.h5: not written, .*h5py.*cannot be read back"):
        write_scene(tmp_path / "a.h5", make_scene(name="new"))
    assert (tmp_path / "a.h5").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@NEEDS_HDF5_2
def test_files_written_through_a_file_object_read_back_too(tmp_path, monkeypatch):
    """The way of older libraries; the newer ones read it."""
    monkeypatch.setattr(scenes.h5py.version, "hdf5_version_tuple", (1, 14, 6))
    write_scene(tmp_path / "a.h5", make_scene())
    assert_same(make_scene(), read_scene(tmp_path / "a.h5", None))


def test_no_faces_at_all(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene(faces=np.zeros((0, 3), np.int32)))
    assert read_scene(tmp_path / "a.h5", ALL).faces.shape == (0, 3)


def test_equal_scenes_are_equal_bytes_and_nothing_else_is_left(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene())
    time.sleep(1.1)  # HDF5's times are in seconds
    write_scene(tmp_path / "b.h5", make_scene())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    write_scene(tmp_path / "b.h5", make_scene(name="other"))
    assert (tmp_path / "a.h5").read_bytes() != (tmp_path / "b.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_attributes_and_checksums(tmp_path):
    write_scene(tmp_path / "a.h5", make_scene())
    with h5py.File(tmp_path / "a.h5") as file:
        assert [dataset.fletcher32 for dataset in file.values()] == [True] * 6
        assert dict(file.attrs) == {"format_version": 2, "name": b"scene0000_00", "vertices": 40}


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    write_scene(path, make_scene())
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    def full_disk(fd):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_scene(path, make_scene(name="new"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyz": None}, "no 'xyz'"),
        ({"xyz": np.zeros((40, 3))}, "'xyz' is float64, not float32"),
        ({"xyz": np.full((40, 3), np.nan, np.float32)}, "'xyz' holds NaN"),
        ({"label": np.zeros(40, np.uint8)}, "'label' is uint8, not uint16"),
        ({"label": np.zeros(39, np.uint16)}, "39 rows for 40 vertices"),
        ({"label": np.zeros((40, 1), np.uint16)}, "shape"),
        ({"intensity": np.full(40, 1.5, np.float32)}, "'intensity' goes from 1.5 to 1.5"),
        ({"faces": np.full((2, 3), 40, np.int32)}, "vertices 40 to 40 of 40"),
        ({"faces": np.full((2, 3), -1, np.int32)}, "vertices -1 to -1 of 40"),
        ({"faces": np.zeros((2, 4), np.int32)}, "shape"),
        (
            dict.fromkeys(("label", "normal", "intensity", "faces")) | {"xyz": np.zeros((0, 3), np.float32)},
            "no vertices",
        ),
    ],
)
def test_write_refuses(tmp_path, changes, message):
    with pytest.raises(SceneError, match=f"a.h5: not written, .*{message}"):
        write_scene(tmp_path / "a.h5", make_scene(**changes))
    assert not list(tmp_path.iterdir())


def replace_dataset(field, array):
    def spoil(file):
        del file[field]
        file.create_dataset(field, data=array, **(FILTERS | {"chunks": array.shape} if array.shape else {}))

    return spoil


def delete(field):
    return lambda file: file.__delitem__(field)


def replace_attribute(key, value):
    return lambda file: file.attrs.create(key, value)


def set_attribute(key, value):
    return lambda file: file.attrs.__setitem__(key, value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (set_attribute("format_version", 3), "has format version 3, this code reads 1 and 2"),
        (lambda file: file.attrs.__delitem__("format_version"), "damaged or no scene file"),
        (set_attribute("format_version", [1, 1]), "preprocess the scans again"),
        (set_attribute("name", 5), "damaged or no scene file"),
        (set_attribute("vertices", 41), "40 rows for 41 vertices"),
        (set_attribute("vertices", -1), "40 rows for -1 vertices"),
        (delete("xyz"), "there is no 'xyz'"),
        (delete("normal"), "there is no 'normal'; .*with --normals"),
        (replace_dataset("xyz", np.zeros((40, 3), np.float64)), "'xyz' is float64, not float32"),
        (replace_dataset("xyz", np.zeros((40, 2), np.float32)), "'xyz' has shape"),
        (replace_dataset("xyz", np.float32(0)), "'xyz' has shape"),
        (replace_dataset("xyz", np.full((40, 3), np.inf, np.float32)), "'xyz' holds NaN or inf"),
        (replace_dataset("label", np.zeros(40, np.int64)), "'label' is int64, not uint16"),
        (replace_dataset("label", np.zeros(40, np.uint8)), "'label' is uint8, not uint16"),
        (delete("intensity"), "there is no 'intensity'; .*without --features intensity"),
        (replace_dataset("faces", np.full((1, 3), 99, np.int32)), "vertices 99 to 99 of 40"),
        (lambda file: (delete("xyz")(file), file.create_group("xyz")), "damaged or no scene file"),
        (replace_attribute("vertices", np.array([[40]])), "'vertices' has shape"),
        (replace_attribute("name", "text on the heap"), "'name' has shape .* and type object"),
        (replace_attribute("name", h5py.Empty("S1")), "'name' has shape None"),
    ],
)
def test_read_refuses_another_schema(tmp_path, spoil, message):
    path = tmp_path / "a.h5"
    write_scene(path, make_scene())
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(SceneError, match=message) as caught:
        read_scene(path, ALL)
    assert str(path) in str(caught.value) and (
        "preprocess" in str(caught.value) or "train without" in str(caught.value)
    )


def test_missing_truncated_or_not_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(SceneError, match="no such scene file; preprocess the scans again"):
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


@pytest.mark.parametrize("vertices", [1, 511, 30_000])  # blocks of odd and even lengths, of one checksum row and many
def test_unpacks_as_hdf5_does(tmp_path, vertices):
    rng = np.random.default_rng(vertices)
    colour = rng.integers(0, 256, (vertices, 3)).astype(np.uint8)
    scene = Scene("a", rng.normal(size=(vertices, 3)).astype(np.float32), np.full(vertices, 40, np.uint16), colour)
    write_scene(tmp_path / "a.h5", scene)
    assert_same(scene, read_scene(tmp_path / "a.h5", ("xyz", "label", "colour")), ("xyz", "label", "colour"))
    assert read_scene(tmp_path / "a.h5").label.flags.writeable
    with h5py.File(tmp_path / "a.h5") as file:
        for field in ("xyz", "label", "colour"):
            np.testing.assert_array_equal(file[field][()], getattr(scene, field))


# Data elsewhere: what HDF5 would follow is refused


def soft_link(file, folder):
    file.move("xyz", "moved")
    file["xyz"] = h5py.SoftLink("/moved")


def external_link(file, folder):
    del file["xyz"]
    file["xyz"] = h5py.ExternalLink(folder / "other.h5", "xyz")


def external_storage(file, folder):
    xyz = file["xyz"][()]
    (folder / "other.raw").write_bytes(xyz.tobytes())
    del file["xyz"]
    file.create_dataset("xyz", xyz.shape, xyz.dtype, external=[(folder / "other.raw", 0, xyz.nbytes)])


def virtual_dataset(file, folder):
    layout = h5py.VirtualLayout((40, 3), np.float32)
    layout[:] = h5py.VirtualSource(folder / "other.h5", "xyz", (40, 3))
    del file["xyz"]
    file.create_virtual_dataset("xyz", layout)


@pytest.mark.parametrize(
    ("refer", "message"),
    [
        (soft_link, "'xyz' is a link"),
        (external_link, "'xyz' is a link"),
        (external_storage, "the data of 'xyz' are in other files"),
        (virtual_dataset, "the data of 'xyz' are in other files"),
    ],
)
def test_data_elsewhere_are_not_followed(tmp_path, refer, message):
    path, scene = tmp_path / "a.h5", make_scene()
    write_scene(path, scene)
    write_scene(tmp_path / "other.h5", scene)
    with h5py.File(path, "r+") as file:
        refer(file, tmp_path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["xyz"][()], scene.xyz)  # HDF5 would find them
    with pytest.raises(SceneError, match=message):
        read_scene(path)


@pytest.mark.parametrize("target", ["object", "region"])
def test_references_are_not_followed(tmp_path, target):
    path, kind = tmp_path / "a.h5", h5py.ref_dtype if target == "object" else h5py.regionref_dtype
    write_scene(path, make_scene())
    with h5py.File(path, "r+") as file:
        reference = file["xyz"].ref if target == "object" else file["xyz"].regionref[:]
        del file["label"]
        file.create_dataset("label", (40,), kind)[0] = reference
        del file.attrs["name"]
        file.attrs.create("name", reference, dtype=kind)
    with pytest.raises(SceneError, match="'name' has shape .* and type object"):
        read_scene(path)
    with h5py.File(path, "r+") as file:
        file.attrs["name"] = np.bytes_(b"a")
    with pytest.raises(SceneError, match="'label' is object, not uint16"):
        read_scene(path)


def test_a_user_defined_link_is_not_followed(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="earliest") as file:  # in HDF5's oldest format, whose links have no checksum
        file.attrs.update(format_version=2, vertices=40, name=np.bytes_("a"))
        file["xyz"] = h5py.ExternalLink("other.h5", "xyz")
    content = path.read_bytes()
    link = bytes([64, 3]) + b"xyz"  # 64: an external link; from 65 on the types are the users' own
    assert content.count(link) == 1
    path.write_bytes(content.replace(link, bytes([65]) + link[1:]))
    with pytest.raises(SceneError, match="damaged or no scene file .Unknown link type"):
        read_scene(path, ["xyz"])


# Data that have no checksum, or are not what they declare


def in_pieces(file, field, array):
    file.create_dataset(field, data=array, **FILTERS, chunks=(7, 3))


def contiguous(file, field, array):
    file[field] = array


def compact(file, field, array):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(array.shape)
    kind = h5py.h5t.py_create(array.dtype)
    h5py.h5d.create(file.id, field.encode(), kind, space, properties).write(space, space, array)


def without_checksum(file, field, array):
    file.create_dataset(field, data=array, **(FILTERS | {"chunks": array.shape, "fletcher32": False}))


def checksum_skipped(file, field, array):
    _, block = file[field].id.read_direct_chunk((0, 0))
    replaced = file.create_dataset("replaced", array.shape, array.dtype, **FILTERS, chunks=array.shape)
    replaced.id.write_direct_chunk((0, 0), block[:-4], filter_mask=0b100)  # of the three filters the last is left out
    del file[field]
    file.move("replaced", field)


@pytest.mark.parametrize("store", [in_pieces, contiguous, compact, without_checksum, checksum_skipped])
def test_data_without_a_checksum_are_refused(tmp_path, store):
    path, scene = tmp_path / "a.h5", make_scene()
    write_scene(path, scene)
    with h5py.File(path, "r+") as file:
        if store != checksum_skipped:
            del file["xyz"]
        store(file, "xyz", scene.xyz)
        np.testing.assert_array_equal(file["xyz"][()], scene.xyz)
    with pytest.raises(SceneError, match="'xyz' .*checksum"):
        read_scene(path)


def replace_block(file, field, shape, unpacked):
    """`field` declares `shape`, but its one block, whose checksum holds, unpacks to `unpacked`."""
    dtype = file[field].dtype
    packed = np.frombuffer(zlib.compress(unpacked), np.uint8)
    dataset = file.create_dataset("block", data=packed, chunks=packed.shape, fletcher32=True)
    file.flush()  # HDF5 before 2.0 reads no block that is still in its cache
    _, block = dataset.id.read_direct_chunk((0,))
    del file[field], file["block"]
    file.create_dataset(field, shape, dtype, **FILTERS, chunks=shape).id.write_direct_chunk((0,) * len(shape), block)
    file.attrs["vertices"] = shape[0]


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda file: replace_block(file, "label", (40,), bytes(80)), None),  # nothing wrong
        (lambda file: replace_block(file, "label", (40,), bytes(78)), "does not unpack to the 80 bytes"),
        (lambda file: replace_block(file, "label", (40,), bytes(82)), "does not unpack to the 80 bytes"),
        pytest.param(
            lambda file: replace_block(file, "label", (40,), bytes(10**8)),
            "does not unpack to the 80 bytes",
            marks=NEEDS_HDF5_2,
        ),
        (lambda file: replace_block(file, "label", (10**9,), bytes(10**6)), "does not unpack to the 2000000000 bytes"),
        pytest.param(
            lambda file: replace_block(file, "label", (10**12,), bytes(40)),
            "does not unpack to the 2000000000000",
            marks=NEEDS_HDF5_2,
        ),
        (
            lambda file: (
                delete("label")(file),
                file.create_dataset("label", (10**12,), np.uint16, chunks=(1024,)),
                set_attribute("vertices", 10**12)(file),
            ),
            "not one block",
        ),
    ],
    ids=["as declared", "a byte less", "a byte more", "much more", "much less", "terabytes", "terabytes not written"],
)
def test_no_more_memory_than_the_file_holds(tmp_path, declare, message):
    path = tmp_path / "a.h5"
    write_scene(path, make_scene())
    with h5py.File(path, "r+") as file:
        declare(file)
    tracemalloc.start()
    if message is None:
        assert not read_scene(path, ["label"]).label.any()
    else:
        with pytest.raises(SceneError, match=message):
            read_scene(path, ["label"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # bytes


def test_a_pipe_or_a_circular_symlink_is_no_scene_file(tmp_path):
    path = tmp_path / "a.h5"
    os.mkfifo(path)
    with pytest.raises(SceneError, match="no such scene file"):  # and does not wait for a writer
        read_scene(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(SceneError, match="no such scene file"):
        read_scene(path)


# Another process


def rewrite(folder, scenes, manifests, times):
    for turn in range(times):
        write_scene(folder / "a.h5", scenes[turn % 2])
        write_manifest(folder, manifests[turn % 2])


def test_a_reader_while_another_process_writes(tmp_path):
    """Always one of the two scenes and of the two manifests, whole."""
    scenes = [make_scene(name=name, colour=np.full((40, 3), value, np.uint8)) for value, name in enumerate("ab")]
    manifests = [make_manifest(), make_manifest() | {"failed": {}}]
    rewrite(tmp_path, scenes, manifests, 1)
    writer = multiprocessing.get_context("spawn").Process(target=rewrite, args=(tmp_path, scenes, manifests, 200))
    writer.start()
    seen = Counter()
    while writer.is_alive():
        scene = read_scene(tmp_path / "a.h5", ALL)
        assert_same(scenes[scene.name == "b"], scene)
        assert read_manifest(tmp_path) in manifests
        seen[scene.name] += 1
    assert writer.exitcode == 0
    assert min(seen["a"], seen["b"]) > 5


# The manifest


def make_manifest():
    scene = {
        "file": "scenes/room-1.h5",
        "vertices": 3,
        "labelled": True,
        "sha256": "0" * 64,
        "histogram": {0: 1, 40: 2},
    }
    return {
        "format_version": 2,
        "label_space": SCANNET20,
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
        (lambda m: m.update(format_version=3), "format version 3"),
        (lambda m: m.pop("label_space"), "entries are missing"),
        (lambda m: m["label_space"]["classes"].clear(), "there are 0 classes"),
        (lambda m: m.pop("splits"), "entries are missing"),
        (lambda m: m["splits"].pop("val"), "entries are missing"),
        (lambda m: m["splits"].update(val=["elsewhere"]), "entries are missing.*elsewhere"),
        (lambda m: m["splits"].update(val=3), "of a wrong type"),
        (lambda m: m["expected"].update(val="x"), "of a wrong type"),
        (lambda m: m.pop("failed"), "entries are missing"),
        (lambda m: m["scenes"]["room-1"].update(file="/etc/passwd"), "names the file '/etc/passwd'"),
        (lambda m: m["scenes"]["room-1"].update(histogram=[3]), "of a wrong type"),
        (lambda m: m["scenes"]["room-1"].update(histogram={"x": 3}), "invalid literal"),
        (lambda m: m["scenes"]["room-1"].update(histogram={"41": 3}), r"ids \[41\], and 'scannet20' does not"),
        (lambda m: m["scenes"]["room-1"].update(vertices=4), "histogram"),
        (lambda m: m["scenes"]["room-1"].update(histogram={"0": 4, "1": -1}), "histogram"),
        (lambda m: m["scenes"]["room-1"].update(histogram={"0": 3.0}), "histogram"),
        (lambda m: m["scenes"]["room-1"].update(vertices=2**63, histogram={"0": 2**63}), "histogram"),
        (lambda m: m["splits"].update(val=["room-1"]), "'room-1' is listed twice"),
        *[
            (
                lambda m, scan_id=scan_id: (
                    m["splits"].update(val=[scan_id]),
                    m["scenes"].update({scan_id: m["scenes"]["room-1"] | {"file": f"scenes/{scan_id}.h5"}}),
                ),
                "names the file 'scenes/",
            )
            for scan_id in ("../x", "/etc/passwd", "..", "", "a/b", "a\x00b", "a\ud800", "x" * 300)
        ],
    ],
)
def test_manifest_refused(tmp_path, spoil, message):
    manifest = make_manifest() | {"label_space": SCANNET20.as_json()}
    spoil(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SceneError, match=message) as caught:
        read_manifest(tmp_path)
    assert f"preprocess scans with --out {tmp_path}" in str(caught.value)


def test_a_manifest_of_format_1_is_of_the_papers_label_space(tmp_path):
    manifest = make_manifest() | {"format_version": 1}
    del manifest["label_space"], manifest["scenes"]["room-1"]["histogram"]
    manifest["scenes"]["room-1"]["nyu40_histogram"] = [1] + [0] * 39 + [2]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read_manifest(tmp_path) == make_manifest()
    manifest["scenes"]["room-1"]["nyu40_histogram"] = [1] + [0] * 40
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SceneError, match="histogram"):
        read_manifest(tmp_path)


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
