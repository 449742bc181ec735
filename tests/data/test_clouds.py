import io
import struct
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from plyfile import PlyData, PlyElement
from test_fuzz import attempt, edited

from data.clouds import cut, find_clouds, read_cloud, read_labels
from data.formats import stored
from data.formats.reading import READERS
from data.scans import ScanError

V = 60
RNG = np.random.default_rng(0)
XYZ = RNG.integers(0, 4000, (V, 3)) / 1000  # whole millimetres, as LAS files hold them
COLOUR = RNG.integers(0, 256, (V, 3), np.uint8)
NORMAL = np.float32([[0, 0, 1], [0, 0.6, -0.8]])[RNG.integers(0, 2, V)]
INTENSITY = RNG.integers(0, 65_536, V, np.uint16)
LABEL = RNG.integers(1, 30, V, np.uint8)
PLACES = dict(zip("xyz", XYZ.T, strict=True))
COLUMNS = PLACES | dict(zip(("red", "green", "blue"), COLOUR.T, strict=True))
COLUMNS |= dict(zip(("nx", "ny", "nz"), NORMAL.T, strict=True)) | {"intensity": INTENSITY, "class": LABEL}
LAS = [".las", ".laz"]


def table(columns):
    """A structured array of {name: (V, ...)}."""
    rows = np.empty(len(next(iter(columns.values()))), [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def write_ply(path, columns, order="<", faces=None, **of_faces):
    elements = [PlyElement.describe(table(columns), "vertex")]
    if faces is not None:
        corners = np.empty(len(faces), "O")
        corners[:] = list(np.array(faces, np.int32))
        rows = table(of_faces | {"vertex_indices": corners})
        elements.append(PlyElement.describe(rows, "face"))
    PlyData(elements, order == "ascii", "=" if order == "ascii" else order).write(str(path))
    return path


def write_las(path, columns, point_format=7, extra=()):
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=point_format)
    header.scales, header.offsets = [0.001] * 3, [np.floor(columns[axis].min()) for axis in "xyz"]
    for name in extra:
        header.add_extra_dim(laspy.ExtraBytesParams(name, columns[name].dtype))
    las = laspy.LasData(header)
    for name, values in columns.items():
        setattr(las, name, values)
    las.write(str(path))
    return path


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def write_npy(path, array, **options):
    np.save(path, array, **options)
    return path


def equal(scan, **fields):
    for name, values in fields.items():
        np.testing.assert_array_equal(getattr(scan, name), values, err_msg=name)
        assert getattr(scan, name).dtype == values.dtype


@pytest.mark.parametrize("form", ["<.ply", ">.ply", "ascii.ply", ".npy", ".npz", "arrays.npz", *LAS])
def test_all_formats_give_the_same_scan(tmp_path, form):
    """Vertex by vertex; of LAS, colours are of 16 bits, labels called otherwise, and there are no normals."""
    path = tmp_path / f"room{form[form.index('.') :]}"
    if form.endswith(".ply"):
        write_ply(path, COLUMNS, form.removesuffix(".ply"))
    elif form == ".npy":
        write_npy(path, table(COLUMNS))
    elif form == ".npz":
        write_npz(path, **COLUMNS)
    elif form == "arrays.npz":
        write_npz(path, points=XYZ, rgb=COLOUR, normals=NORMAL, intensity=INTENSITY[:, None], labels=LABEL)
    else:
        wide = {name: values.astype(np.uint16) * 257 for name, values in COLUMNS.items() if values.dtype == np.uint8}
        fields = {name: wide.get(name, values) for name, values in COLUMNS.items() if name[0] != "n"}
        write_las(path, fields | {"classification": fields.pop("class") // 257})
    scan = read_cloud(path)
    assert (scan.name, scan.notes, scan.offset, scan.faces) == ("room", (), None, None)
    equal(scan, xyz=XYZ.astype(np.float32), label=LABEL.astype(np.uint16), colour=COLOUR)
    equal(scan, intensity=(INTENSITY / 65_535).astype(np.float32))
    if form not in LAS:
        np.testing.assert_allclose(scan.normal, NORMAL, atol=1e-7)
    np.testing.assert_array_equal(read_labels(path)[1], scan.label)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_ply(folder / "a.ply", PLACES),
        lambda folder: write_npy(folder / "a.npy", table(PLACES)),
        lambda folder: write_npz(folder / "a.npz", xyz=XYZ),
    ],
    ids=["ply", "npy", "npz"],
)
def test_only_coordinates_are_needed(tmp_path, write):
    path = write(tmp_path)
    scan = read_cloud(path)
    equal(scan, xyz=XYZ.astype(np.float32))
    absent = ("label", "colour", "normal", "intensity", "faces", "offset")
    assert [getattr(scan, name) for name in absent] == [None] * 6 and read_labels(path) == (None, None)


@pytest.mark.parametrize("dtype", [">f8", "f4"])
def test_columns_of_an_array_without_names(tmp_path, dtype):
    full = np.column_stack([XYZ, COLOUR, LABEL]).astype(dtype)
    for width, fields in {
        3: {},
        6: {"colour": COLOUR},
        7: {"colour": COLOUR, "label": LABEL.astype(np.uint16)},
    }.items():
        scan = read_cloud(write_npy(tmp_path / "a.npy", full[:, :width]))
        equal(scan, xyz=full[:, :3].astype(np.float32), **fields)
        assert (scan.colour is None, scan.label is None) == (width < 6, width < 7)
    for shape in ((V, 4), (3, V), (V,), (V, 3, 1)):
        with pytest.raises(ScanError, match=r"x y z r g b label"):
            read_cloud(write_npy(tmp_path / "a.npy", np.zeros(shape)))


def test_a_mesh_keeps_its_faces(tmp_path):
    scan = read_cloud(write_ply(tmp_path / "a.PLY", COLUMNS, faces=[(0, 1, 2), (3, 1, 2)]))
    equal(scan, faces=np.array([(0, 1, 2), (3, 1, 2)], np.int32))


WIDE = np.uint16([[0, 128, 129], [257 * 7, 65_535, 65_535 - 128]])
RANGES = [
    (WIDE, [[0, 0, 1], [7, 255, 255]]),
    (np.uint16([[0, 100, 255]]), [[0, 100, 255]]),
    (np.int64([[0, 100, 255]]), [[0, 100, 255]]),
    (np.float64([[0, 100, 255]]), [[0, 100, 255]]),
    (np.float32([[0, 0.5, 1]]), [[0, 128, 255]]),
    (np.int64([[0, 100, 256]]), "0 to 256"),
    (np.float32([[-1, 0, 1]]), "-1.0 to 1.0"),
    (np.float32([[0.5, 2, 3]]), "0.5 to 3.0"),
    (np.float32([[0, np.nan, 1]]), "nan"),
    (np.array([["red", "0", "0"]]), "numbers"),
    (np.zeros((1, 4), np.uint8), "4"),
]


@pytest.mark.parametrize("name", ["colour", "color", "colours", "colors"])
def test_names_of_colours(tmp_path, name):
    equal(read_cloud(write_npz(tmp_path / "a.npz", points=XYZ, **{name: COLOUR})), colour=COLOUR)


@pytest.mark.parametrize(("stored", "wanted"), RANGES)
def test_ranges_of_colours(tmp_path, stored, wanted):
    path = write_npz(tmp_path / "a.npz", xyz=np.zeros((len(stored), 3)), color=stored)
    if isinstance(wanted, str):
        with pytest.raises(ScanError, match=f"a.npz: .*{wanted}"):
            read_cloud(path)
        return
    scan = read_cloud(path)
    equal(scan, colour=np.array(wanted, np.uint8))
    assert len(scan.notes) == (stored.dtype == np.uint16 and stored.max() < 256)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (np.uint8([0, 51, 255]), [0, 0.2, 1]),
        (np.float64([0, 0.2, 1]), [0, 0.2, 1]),
        (np.float32([0, 2048, 1]), None),
        (np.float32([0, np.nan, 1]), None),
        (np.int32([0, 51, 255]), None),
    ],
)
def test_ranges_of_intensities(tmp_path, stored, wanted):
    """What has no known range is left out, and the scan is read."""
    scan = read_cloud(write_npz(tmp_path / "a.npz", xyz=np.zeros((3, 3)), intensity=stored))
    if wanted is None:
        assert scan.intensity is None and "left out" in scan.notes[0]
    else:
        equal(scan, intensity=np.float32(wanted))
        assert scan.notes == ()


def test_normals_get_unit_length(tmp_path):
    normal = np.array([[0, 0, 2.0], [0, 0, 0], [0, np.nan, 0]])
    scan = read_cloud(write_npz(tmp_path / "a.npz", xyz=np.zeros((3, 3)), normal=normal))
    equal(scan, normal=np.float32([[0, 0, 1], [0, 0, 0], [0, 0, 0]]))


def test_the_property_that_holds_the_labels(tmp_path):
    other = LABEL[::-1].copy()
    path = write_npz(tmp_path / "a.npz", xyz=XYZ, classification=other, label=LABEL, material=other)
    np.testing.assert_array_equal(read_cloud(path).label, LABEL)
    for name in ("classification", "material"):
        np.testing.assert_array_equal(read_cloud(path, name).label, other)
        assert read_labels(path, name)[0] == name
    with pytest.raises(ScanError, match="'kind'.*classification.*label.*material"):
        read_cloud(path, "kind")


def test_labels_of_cloudcompare_are_floats(tmp_path):
    path = write_ply(tmp_path / "a.ply", PLACES | {"scalar_Label": LABEL.astype(np.float32)})
    equal(read_cloud(path), label=LABEL.astype(np.uint16))
    for wrong in (0.5, np.nan, np.inf, -1, 1e30):
        values = np.append(LABEL[1:], wrong).astype(np.float32)
        with pytest.raises(ScanError, match="a.ply: 'scalar_Label'"):
            read_cloud(write_ply(path, PLACES | {"scalar_Label": values}))


@pytest.mark.parametrize(
    ("label", "cause"),
    [
        (LABEL.astype(np.float64), "float64"),
        (-LABEL.astype(np.int64), "-"),
        (np.full(V, 65_536), "65536"),
        (np.eye(V, 4, dtype=np.uint8), r"\(60, 4\)"),
        (LABEL[1:], "59 labels for 60 points"),
        (np.array(["wall"] * V), "<U4"),
        (np.array([None] * V), "pickle"),
        (np.uint8(3), r"\(\)"),
    ],
)
def test_labels_that_are_none(tmp_path, label, cause):
    path = tmp_path / "a.npz"
    np.savez(path, xyz=XYZ, label=label)
    with pytest.raises(ScanError, match=f"a.npz: .*{cause}"):
        read_cloud(path)


def test_labels_of_faces(tmp_path):
    one = np.ones(1, np.uint8)
    path = write_ply(tmp_path / "a.ply", PLACES, faces=[(0, 1, 2)], label=one, material=one)
    for label_property in (None, "material"):
        with pytest.raises(ScanError, match="property of the faces"):
            read_cloud(path, label_property)


@pytest.mark.parametrize("ending", ["ply", "npz", "las"])
def test_map_coordinates(tmp_path, ending):
    place = np.array([450_000.0, 5_411_932.0, 103.0])
    columns = dict(zip("xyz", (XYZ + place).T, strict=True))
    path = tmp_path / f"a.{ending}"
    write = {"ply": write_ply, "las": write_las, "npz": lambda path, columns: write_npz(path, **columns)}[ending]
    scan = read_cloud(write(path, columns))
    np.testing.assert_allclose(scan.xyz + scan.offset, XYZ + place, rtol=0, atol=1e-6)
    assert scan.xyz.max() < 10 and scan.step == (pytest.approx(0.001) if ending == "las" else np.spacing(5_411_936.0))


@pytest.mark.parametrize(
    ("xyz", "cause"),
    [
        (np.full((V, 3), np.nan), "60 .* NaN"),
        (XYZ * 1000, "metres"),
        (np.zeros((0, 3)), "no "),
        (XYZ[:, :2], "xyz"),
        (np.full((V, 3), "x"), "numbers"),
        (XYZ.astype(complex), "complex"),
    ],
)
def test_coordinates_that_are_none(tmp_path, xyz, cause):
    with pytest.raises(ScanError, match=f"a.npz: .*{cause}"):
        read_cloud(write_npz(tmp_path / "a.npz", xyz=xyz))


def test_files_that_are_none(tmp_path):
    write_npz(tmp_path / "none.npz", places=XYZ, label=LABEL)
    with pytest.raises(ScanError, match="no coordinates .*places"):
        read_cloud(tmp_path / "none.npz")
    with pytest.raises(ScanError, match="absent.npz: missing"):
        read_cloud(tmp_path / "absent.npz")
    (tmp_path / "a.pts").write_text("0 0 0\n")
    with pytest.raises(ScanError, match=r"a.pts: .*\.laz"):
        read_cloud(tmp_path / "a.pts")
    for ending in READERS:
        for content in (b"", b"no cloud\n" * 200):
            (tmp_path / f"a{ending}").write_bytes(content)
            with pytest.raises(ScanError, match=f"a{ending}: "):
                read_cloud(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", LAS)
def test_what_a_las_file_always_has_may_be_empty(tmp_path, ending):
    """Colours, intensities and classes are 0 where there are none; zeros beside others are values."""
    scan = read_cloud(write_las(tmp_path / f"a{ending}", PLACES, 3))
    assert (scan.label, scan.colour, scan.intensity) == (None, None, None)
    (note,) = scan.notes
    assert "classification" in note and "no labels" in note
    path = write_las(tmp_path / f"b{ending}", PLACES | {"red": np.arange(V) * 4, "classification": np.arange(V) % 2}, 3)
    scan = read_cloud(path)
    np.testing.assert_array_equal(scan.label, np.arange(V) % 2)
    np.testing.assert_array_equal(scan.colour, np.stack([np.arange(V) * 4, np.zeros(V), np.zeros(V)], 1))
    assert "16 bits" in scan.notes[0]


def test_labels_in_an_extra_dimension_of_las(tmp_path):
    columns = PLACES | {"label": LABEL.astype(np.uint16) + 300}
    path = write_las(tmp_path / "a.laz", columns | {"classification": LABEL}, extra=["label"])
    equal(read_cloud(path), label=LABEL.astype(np.uint16) + 300)
    np.testing.assert_array_equal(read_cloud(path, "classification").label, LABEL)


def test_las_without_its_reader(tmp_path, monkeypatch):
    path = write_las(tmp_path / "a.laz", PLACES)
    for module in ("lazrs", "laspy"):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ScanError, match=f"{module}; pip install"):
            read_cloud(path)


def npy_header(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def declare(path, place, form, count):
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, place, count)
    path.write_bytes(content)


def hostile(path, kind):
    if kind == "npy":
        path.write_bytes(npy_header((10**7, 3)) + XYZ.tobytes())
    elif kind == "npz":  # the array declares more than the archive
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("xyz.npy", npy_header((10**7, 3)) + XYZ.tobytes())
    elif kind == "bomb.npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xyz.npy", npy_header((3 * 10**6, 3)) + bytes(72 * 10**6))
    elif kind in ("las", "laz"):  # points of version 1.4
        declare(write_las(path, PLACES), 247, "<Q", 10**7)
    elif kind == "records.las":  # of the header
        declare(write_las(path, PLACES), 100, "<I", 2**31)
    elif kind == "chunks.laz":
        content = write_las(path, PLACES).read_bytes()
        (first,) = struct.unpack_from("<I", content, 96)
        declare(path, struct.unpack_from("<q", content, first)[0] + 4, "<I", 2**32 - 1)


@pytest.mark.parametrize("kind", ["npy", "npz", "bomb.npz", "las", "laz", "records.las", "chunks.laz"])
def test_no_memory_for_what_is_only_declared(tmp_path, kind):
    path = tmp_path / f"a.{kind.rsplit('.')[-1]}"
    hostile(path, kind)
    assert attempt(lambda: read_cloud(path), 1) is None


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_ply(folder / "a.ply", COLUMNS),
        lambda folder: write_npy(folder / "a.npy", table(COLUMNS)),
        lambda folder: write_npz(folder / "a.npz", xyz=XYZ, label=LABEL),
        lambda folder: write_las(folder / "a.las", PLACES | {"intensity": INTENSITY}),
    ],
    ids=["ply", "npy", "npz", "las"],
)
def test_damaged_files(tmp_path, monkeypatch, write):
    """Some values, or a ScanError; never much memory."""
    path = write(tmp_path)
    monkeypatch.setattr(stored, "FREE", 2**20)

    @settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(content=edited(path.read_bytes(), [b"float", b"uchar", b"'<f8'", b"|u1", b"(60,", b"(60, 3)", b"\xff" * 4]))
    def check(content):
        path.write_bytes(content)
        scan = attempt(lambda: read_cloud(path), len(content))
        assert scan is None or (np.isfinite(scan.xyz).all() and scan.xyz.shape[1:] == (3,))
        assert scan is None or scan.label is None or scan.label.shape == scan.xyz.shape[:1]

    check()


def test_a_damaged_block_of_an_archive(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, xyz=XYZ)
    content = bytearray(path.read_bytes())
    content[content.index(XYZ.tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ScanError, match="a.npz: .*damaged"):
        read_cloud(path)


def test_names_of_clouds(tmp_path):
    for name in ("b.ply", "Area_5/office.npy", "Area_5/deep/hall.1.LAZ", "notes.txt", ".hidden/c.ply", "._b.ply"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.ply").mkdir()
    assert {name: str(path.relative_to(tmp_path)) for name, path in find_clouds(tmp_path).items()} == {
        "Area_5_deep_hall.1": "Area_5/deep/hall.1.LAZ",
        "Area_5_office": "Area_5/office.npy",
        "b": "b.ply",
    }


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        ([], r"\.ply, .*\.npz"),
        (["notes.txt"], r"\.ply, .*\.npz"),
        (["room.ply", "room.npy"], "room.npy and .*room.ply"),
        (["a/room.ply", "a_room.ply"], "a/room.ply and .*a_room.ply"),
        (["my room.ply"], "letters, digits"),
        (["küche.ply"], "letters, digits"),
        (["x" * 120 + "/" + "x" * 120 + ".ply"], "letters, digits"),
    ],
)
def test_folders_of_clouds_that_are_none(tmp_path, names, cause):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=cause):
        find_clouds(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        find_clouds(tmp_path / "absent")


def test_a_scan_is_cut_in_two(tmp_path):
    """Across its longer side, after three quarters; triangles across the cut go."""
    rng = np.random.default_rng(1)
    xyz = rng.uniform(0, (4, 8, 30), (200, 3)) + (0, 500_000, 0)
    faces = rng.integers(0, 200, (300, 3))
    columns = dict(zip("xyz", xyz.T, strict=True)) | {"label": np.arange(200, dtype=np.uint8)}
    scan = read_cloud(write_ply(tmp_path / "a.ply", columns, faces=faces))
    place = xyz[:, 1].min() + 0.75 * np.ptp(xyz[:, 1])
    parts = {part: cut(scan, part) for part in ("train", "val")}
    kept = {"train": xyz[:, 1] <= place, "val": xyz[:, 1] > place}
    for part, cloud in parts.items():
        np.testing.assert_array_equal(cloud.label, np.flatnonzero(kept[part]))
        np.testing.assert_array_equal(cloud.xyz, scan.xyz[kept[part]])
        np.testing.assert_array_equal(cloud.label[cloud.faces], faces[kept[part][faces].all(axis=1)])
        assert cloud.faces.dtype == np.int32 and len(cloud.faces)
    (note,) = parts["train"].notes
    assert f"y = {place:.2f} m" in note and parts["val"].notes == ()
    upright = read_cloud(write_npz(tmp_path / "a.npz", xyz=xyz * (0, 0, 1)))
    with pytest.raises(ScanError, match="cannot be cut"):
        cut(upright, "val")
