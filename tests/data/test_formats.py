"""The readers of data/formats/, on files that the formats' own libraries write, and on what is none."""

import struct
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from test_clouds import COLOUR, COLUMNS, INTENSITY, PLACES, XYZ, V, equal, npy_header, write_las, write_ply
from test_fuzz import attempt, edited

from data.clouds import find_clouds, read_cloud
from data.formats import e57, stored
from data.formats.as_ply import read_input
from data.formats.reading import READERS, read_stored
from data.scans import ScanError

BILLION = 10**9
FRACTION = (INTENSITY / 65_535).astype(np.float32)
NORMAL = np.tile(np.float32([0, 0.6, -0.8]), (V, 1))


def write_pcd(path, columns, encoding="binary"):
    pypcd4 = pytest.importorskip("pypcd4")
    columns = dict(columns)
    if "red" in columns:
        colour = np.stack([columns.pop(name) for name in ("red", "green", "blue")], axis=1)
        packed = pypcd4.PointCloud.encode_rgb(colour).ravel()
        columns["rgb"] = packed.view(np.uint32) if encoding == "ascii" else packed
    types = [values.dtype for values in columns.values()]
    cloud = pypcd4.PointCloud.from_points([*columns.values()], [*columns], types)
    cloud.save(path, encoding=pypcd4.Encoding(encoding))
    return path


def write_e57(path, *scans):
    """Each of the scans {field: values} may have a `pose`, (rotation as a quaternion, translation)."""
    pye57 = pytest.importorskip("pye57")
    with pye57.E57(str(path), mode="w") as file:
        for scan in scans:
            scan = dict(scan)
            rotation, translation = scan.pop("pose", ((1.0, 0, 0, 0), (0.0, 0, 0)))
            file.write_scan_raw(scan, rotation=np.array(rotation), translation=np.array(translation))
    return path


def e57_scan(xyz=XYZ, **more):
    return {f"cartesian{axis}": xyz[:, place].astype(np.float64) for place, axis in enumerate("XYZ")} | more


def write_text(path, table, head="", delimiter=" "):
    with path.open("w") as stream:
        stream.write(head)
        np.savetxt(stream, table, "%.9g", delimiter)
    return path


def write_obj(path, vertices, *lines):
    path.write_text("".join(f"v {' '.join(f'{value:.9g}' for value in row)}\n" for row in vertices) + "\n".join(lines))
    return path


def write(path, xyz=XYZ):
    """A cloud of `xyz` with COLOUR in the format that the name's ending says, those of PCD before it."""
    colour = dict(zip(("red", "green", "blue"), COLOUR[: len(xyz)].T, strict=True))
    places = dict(zip("xyz", xyz.T.astype(np.float32), strict=True))
    if path.suffix == ".pcd":
        more = {"intensity": FRACTION[: len(xyz)], "curvature": np.zeros(len(xyz), np.float32)}
        return write_pcd(path, places | colour | more, path.name.split(".")[0])
    if path.suffix == ".e57":
        fields = {f"color{name.title()}": values.copy() for name, values in colour.items()}
        return write_e57(path, e57_scan(xyz, **fields, intensity=FRACTION[: len(xyz)]))
    if path.suffix == ".obj":
        return write_obj(path, np.column_stack([xyz, COLOUR[: len(xyz)] / 255]))
    if path.suffix == ".csv":
        table = np.column_stack([xyz, COLOUR[: len(xyz)], FRACTION[: len(xyz)]])
        return write_text(path, table, "X,Y,Z,R,G,B,Intensity\n", ",")
    if path.suffix in (".xyz", ".txt"):
        return write_text(path, np.column_stack([xyz, COLOUR[: len(xyz)]]))
    if path.suffix in (".las", ".laz"):
        return write_las(path, dict(zip("xyz", xyz.T, strict=True)))
    if path.suffix == ".ply":
        return write_ply(path, places | colour)
    if path.suffix == ".npy":
        np.save(path, xyz)
        return path
    np.savez(path, xyz=xyz, rgb=COLOUR[: len(xyz)])
    return path


PCDS = ["ascii.pcd", "binary.pcd", "binary_compressed.pcd"]
NEW = [*PCDS, "a.e57", "a.obj", "a.csv", "a.xyz", "a.txt"]
EVERY = [*NEW, "a.ply", "a.las", "a.laz", "a.npy", "a.npz"]


@pytest.mark.parametrize("name", NEW)
def test_a_format_gives_what_was_written(tmp_path, name):
    scan = read_cloud(write(tmp_path / name))
    assert name not in PCDS or f"DATA {name[:-4]}\n".encode() in (tmp_path / name).read_bytes()
    np.testing.assert_allclose(scan.xyz, XYZ, atol=1e-6)
    equal(scan, colour=COLOUR)
    if name in PCDS + ["a.e57", "a.csv"]:
        np.testing.assert_allclose(scan.intensity, FRACTION, atol=1e-6)
    assert "x y z red green blue" in scan.notes[0] if name in ("a.xyz", "a.txt") else scan.notes == ()


@pytest.mark.parametrize("name", EVERY)
def test_what_predict_writes_back_has_all_columns(tmp_path, name):
    ply, _, left_out = read_input(write(tmp_path / name))
    assert left_out is None and len(ply["vertex"]) == V
    colour = {"a.csv": "rgb", "a.las": (), "a.laz": (), "a.npy": ()}.get(name, ("red", "green", "blue"))
    wanted = {"x", "y", "z", *colour} | ({"intensity"} if name in PCDS + ["a.e57", "a.csv"] else set())
    assert wanted <= {*ply["vertex"].data.dtype.names}
    dtype = ply["vertex"].data.dtype["x"]
    assert dtype == (np.float32 if name in PCDS + ["a.ply"] else np.float64)
    np.testing.assert_allclose(ply["vertex"]["x"], XYZ[:, 0], rtol=1e-6)
    ply.write(tmp_path / "out.ply")


@pytest.mark.parametrize("name", EVERY)
def test_bad_input_of_every_format(tmp_path, name):
    """Cut short, empty, another kind: one line with the name; one point and equal points are read."""
    content = write(tmp_path / name).read_bytes()
    path = tmp_path / name
    for bad in (content[: len(content) // 2], content[:60], b"", b"\0" * 300, b"\x89PNG\r\n\x1a\n" * 50):
        path.write_bytes(bad)
        is_text = path.suffix in (".obj", ".csv", ".xyz", ".txt") and bad and bad in content  # whose rows are no fewer
        for read in (read_cloud, read_input):
            if is_text:
                attempt(lambda read=read: read(path), len(bad))
                continue
            with pytest.raises(ScanError, match=f"{name}: ") as refused:
                read(path)
            assert "\n" not in str(refused.value)
    for xyz in (XYZ[:1], np.tile(XYZ[:1], (5, 1))):
        write(path, xyz)
        assert len(read_cloud(path).xyz) == len(read_input(path).ply["vertex"]) == len(xyz)
    if path.suffix in (".las", ".laz", ".e57"):  # which hold integers, and what pye57 cannot write
        return
    xyz = XYZ.copy()
    xyz[3, 1] = np.nan
    write(path, xyz)
    assert np.flatnonzero(np.isnan(read_input(path).ply["vertex"]["y"])).tolist() == [3]
    with pytest.raises(ScanError, match=f"{name}: 1 vertices have NaN"):
        read_cloud(path)


def replaced(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def declares_a_billion(path):
    """A file in which 10^9 points are declared, or arrays that unpack to as many bytes."""
    if path.suffix == ".pcd":
        return replaced(write(path), b"POINTS 60", f"POINTS {BILLION}".encode())
    if path.suffix == ".ply":
        return replaced(write(path), b"vertex 60", f"vertex {BILLION}".encode())
    if path.suffix in (".las", ".laz"):
        content = bytearray(write(path).read_bytes())
        struct.pack_into("<Q", content, 247, BILLION)  # version 1.4
        path.write_bytes(content)
    elif path.suffix == ".e57":
        old, new = b'"60">\n        <prototype', b'"999999999">\n <prototype'
        return with_checksums(write(path), old, new)
    elif path.suffix == ".npy":
        path.write_bytes(npy_header((BILLION, 3)) + XYZ.tobytes())
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xyz.npy", "w") as stream:
            stream.write(npy_header((4_000_000, 3)))
            for _ in range(96):
                stream.write(bytes(1_000_000))
    elif path.suffix == ".obj":
        return write_obj(path, XYZ, f"f 1 2 {BILLION}")
    else:
        return write_text(path, XYZ, f"{BILLION}\n")
    return path


def with_checksums(path, old, new, page=1024):
    """The E57 file with `new` in the place of `old`, as long, and its pages with their CRC-32C again."""
    assert len(old) == len(new)
    content = bytearray(replaced(path, old, new).read_bytes())
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    for at in range(0, len(content), page):
        crc = 0xFFFFFFFF
        for byte in content[at : at + page - e57.CHECKSUM]:
            crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
        content[at + page - e57.CHECKSUM : at + page] = (crc ^ 0xFFFFFFFF).to_bytes(e57.CHECKSUM, "big")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", [name for name in EVERY if name[-3:] not in ("xyz", "txt", "csv")])
def test_a_billion_points_are_refused_before_there_is_memory_for_them(tmp_path, name):
    path = declares_a_billion(tmp_path / name)
    for read in (read_cloud, read_input):
        start = time.monotonic()
        assert attempt(lambda read=read: read(path), 1) is None
        assert time.monotonic() - start < 5  # far below a second, on a machine that does nothing else


@pytest.mark.parametrize("name", ["a.xyz", "a.txt", "a.csv"])
def test_a_count_before_a_table_is_not_believed(tmp_path, name):
    assert len(read_cloud(declares_a_billion(tmp_path / name)).xyz) == V


def test_layers_of_a_laz_file_that_are_larger_than_the_file(tmp_path):
    """lazrs would take 4 GB for each."""
    path = write(tmp_path / "a.laz")
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 96)
    struct.pack_into("<I", content, first + 8 + 36 + 4, 2**32 - 16)  # behind the first point and the number of points
    path.write_bytes(content)
    with pytest.raises(ScanError, match="a chunk of .* bytes declares 429"):
        read_cloud(path)


def test_a_panic_of_a_library_is_one_line(tmp_path):
    class PanicException(BaseException):
        pass

    with pytest.raises(ScanError, match="a.laz: .*at the disco"), stored.refusing(tmp_path / "a.laz"):
        raise PanicException("at the disco")
    with pytest.raises(KeyboardInterrupt), stored.refusing(tmp_path / "a.laz"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "module"), [("a.e57", "pye57"), ("binary.pcd", "pypcd4"), ("a.las", "laspy")])
def test_what_to_install(tmp_path, monkeypatch, name, module):
    path = write(tmp_path / name)
    monkeypatch.setitem(sys.modules, module, None)
    for read in (read_cloud, read_input):
        with pytest.raises(ScanError, match=f"{path.suffix[1:].upper()} files need {module}; pip install -r scripts/"):
            read(path)


KINDS = {
    "a PNG picture": b"\x89PNG\r\n\x1a\n",
    "a ZIP archive": b"PK\x03\x04",
    "an E57 file under the name .ply; rename it to .e57": b"ASTM-E57",
    "a Draco file": b"DRACO\x02\x02",
    r"glTF \(GLB\)": b"glTF\x02\0\0\0",
    "is glTF by": b'{"scene": 0, "asset": {"version": "2.0"}}',
    "an HTML page": b"\n<!DOCTYPE HTML>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "a PCD file under the name .ply; rename it to .pcd": b"# .PCD v0.7 - Point Cloud Data",
    "a PCD file under": b"VERSION 0.7\nFIELDS x y z\n",  # as pypcd4 and others write it
    "an empty file": b"",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is_by_its_first_bytes(tmp_path, kind):
    path = tmp_path / "a.ply"
    path.write_bytes(KINDS[kind])
    with pytest.raises(ScanError, match=f"a.ply: .*{kind}"):
        read_input(path)
    other = tmp_path / "a.glb"
    other.write_bytes(KINDS[kind])
    with pytest.raises(ScanError, match=kind.split(" under")[0]):
        read_input(other)


def test_pcd_of_older_versions_with_padding(tmp_path):
    """Without COUNT, with padding and a field of several numbers; packed colours may be integers."""
    rows = np.zeros(V, [("x", "f4"), ("_", "u1", 4), ("y", "f4"), ("z", "f4"), ("rgba", "u4"), ("hist", "f4", 2)])
    for axis in "xyz":
        rows[axis] = PLACES[axis]
    rows["rgba"] = 2**24 * 9 + COLOUR.astype(np.uint32) @ np.array([65_536, 256, 1], np.uint32)
    rows["hist"] = np.arange(2 * V).reshape(V, 2)
    head = "# .PCD v.6\nVERSION .6\nCOLUMNS x _ y z rgba hist\nSIZE 4 1 4 4 4 4\nTYPE F U F F U F\nCOUNT 1 4 1 1 1 2\n"
    path = tmp_path / "a.pcd"
    path.write_bytes(f"{head}WIDTH {V}\nHEIGHT 1\nPOINTS {V}\nDATA binary\n".encode() + rows.tobytes())
    pytest.importorskip("pypcd4")
    columns = read_stored(path).columns
    assert [*columns] == ["x", "y", "z", "red", "green", "blue", "alpha", "hist__0000", "hist__0001"]
    assert (columns["alpha"] == 9).all() and (columns["hist__0001"] == rows["hist"][:, 1]).all()
    equal(read_cloud(path), colour=COLOUR)
    table = "\n".join(f"{x} {y} {z}" for x, y, z in XYZ)
    path.write_text(
        f"VERSION .5\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH {V}\nHEIGHT 1\nPOINTS {V}\nDATA ascii\n{table}\n"
    )
    np.testing.assert_allclose(read_cloud(path).xyz, XYZ, rtol=1e-6)


def test_scans_of_an_e57_file_are_put_where_their_poses_say(tmp_path):
    half = np.sqrt(0.5)
    turned = {"pose": ((half, 0, 0, half), (1.0, 2, 3))}  # a quarter around z
    invalid = {"cartesianInvalidState": (np.arange(V) % 3 == 0).astype(np.int8)}
    path = write_e57(tmp_path / "a.e57", e57_scan(), e57_scan(**turned, **invalid))
    columns, *_, notes, _ = read_stored(path)
    valid = np.arange(V) % 3 != 0
    second = np.column_stack([1 - XYZ[:, 1], 2 + XYZ[:, 0], 3 + XYZ[:, 2]])[valid]
    np.testing.assert_allclose(np.stack([columns[axis] for axis in "xyz"], 1), np.concatenate([XYZ, second]), atol=1e-6)
    np.testing.assert_array_equal(columns["scan"], np.repeat([0, 1], [V, valid.sum()]))
    assert f"{V - valid.sum()} points that the scanner calls invalid" in notes[0]


@pytest.mark.parametrize(
    ("new", "cause"), [(b"<!DOCTYPE e [ ]>     ", "document type"), (b"<deep><deep><deep><d>", "a.e57")]
)
def test_e57_files_with_hostile_xml(tmp_path, new, cause):
    path = write(tmp_path / "a.e57")
    content = path.read_bytes()
    (start,) = struct.unpack_from("<Q", content, 24)
    at = start + content[start:].index(b"<e57Root")
    with_checksums(path, content[at : at + len(new)], new)
    with pytest.raises(ScanError, match=cause):
        read_cloud(path)


TABLES = {
    "CloudCompare": ("//X Y Z R G B Nx Ny Nz\n60\n", [COLOUR, NORMAL], "x y z r g b nx ny nz"),
    "a comment": ("# written today\n\n", [COLOUR], "x y z red green blue"),
    "normals": ("", [NORMAL], "x y z nx ny nz"),
    "colours and normals": ("", [COLOUR / 255, NORMAL], "x y z red green blue nx ny nz"),
    "labels": ("", [COLOUR, COLUMNS["class"]], "x y z red green blue label"),
    "other numbers": ("", [INTENSITY - 9.5, 1e6 * NORMAL], "x y z column4 column5 column6 column7"),
    "names": ("x y z intensity label\n", [FRACTION, COLUMNS["class"]], "x y z intensity label"),
    "no coordinates' names": ("east north up v\n", [INTENSITY + 0.5], "x y z column4"),
}


@pytest.mark.parametrize("delimiter", [" ", "\t", ",", ";", ", "])
@pytest.mark.parametrize("kind", TABLES)
def test_names_of_a_table(tmp_path, kind, delimiter):
    head, more, names = TABLES[kind]
    path = write_text(tmp_path / "a.txt", np.column_stack([XYZ, *more]), head.replace(" ", delimiter), delimiter)
    columns = read_stored(path).columns
    assert " ".join(columns) == names
    np.testing.assert_allclose(np.stack([*columns.values()], 1), np.column_stack([XYZ, *more]), rtol=1e-6)
    if "label" in columns:
        equal(read_cloud(path), label=COLUMNS["class"].astype(np.uint16))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("1 2 3\n1 2 x\n", "could not convert string 'x'"),
        ("1 2 3\n1 2\n", "columns changed from 3 to 2"),
        ("1,5;2,5;3,5\n", "decimal commas"),
        ("1,5\t2,5\t3,5\n", "decimal commas"),
        ("1,5 2,5 3,5\n", "decimal commas"),
        ("1 " * 5000, "more than 1000 columns"),
        ("\xff\xfex\0,\0", "is UTF-16; save it as UTF-8"),
        ("x y z label\n1 2 3\n", "3 columns and the names"),
        ("just words\n", "no line of three numbers"),
        ("1 2\n3 4\n", "no line of three numbers"),
    ],
)
def test_tables_that_are_none(tmp_path, text, cause):
    (tmp_path / "a.xyz").write_text(text, encoding="latin-1")
    with pytest.raises(ScanError, match=f"a.xyz: .*{cause}"):
        read_cloud(tmp_path / "a.xyz")


def test_a_table_with_marks_of_other_systems(tmp_path):
    """A mark of the byte order, lines of Windows, quotes, a delimiter at each end, letters beyond ASCII."""
    rows = "".join(f"{x},{y},{z},\r\n" for x, y, z in XYZ)
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"X","Y","Z",\r\n' + rows.encode())
    np.testing.assert_allclose(read_cloud(tmp_path / "a.csv").xyz, XYZ, rtol=1e-6)
    (tmp_path / "b.csv").write_bytes("# Größe\n".encode("latin-1") + rows.encode())
    np.testing.assert_allclose(read_cloud(tmp_path / "b.csv").xyz, XYZ, rtol=1e-6)
    (tmp_path / "c.csv").write_text("".join(f'"{x}","{y}","{z}"\n' for x, y, z in XYZ))
    np.testing.assert_allclose(read_cloud(tmp_path / "c.csv").xyz, XYZ, rtol=1e-6)


def test_faces_of_an_obj_file(tmp_path):
    """With textures and normals, counted from the end, polygons; other lines do not matter."""
    lines = [
        "vt 0 0",
        "vn 0 0 1",
        "g part",
        "usemtl wood",
        "f 1/1/1 2/1/1 3/1/1",
        "f 4//1 5//1 6//1 7//1",
        "f -1 -2 -60",
    ]
    path = write_obj(tmp_path / "a.obj", XYZ, *lines, "f 1 2 3 # the last", "# end")
    scan = read_cloud(path)
    np.testing.assert_allclose(scan.xyz, XYZ, atol=1e-6)
    equal(scan, faces=np.int32([[0, 1, 2], [3, 4, 5], [3, 5, 6], [59, 58, 0], [0, 1, 2]]))
    assert len(read_input(path).ply["face"]) == 5
    for line, cause in ((f"f 1 2 {V + 1}", "faces refer"), ("f 1 2 0", "faces refer"), ("f 1 2 q", "q")):
        with pytest.raises(ScanError, match=f"a.obj: .*{cause}"):
            read_cloud(write_obj(path, XYZ, line))
    path.write_text("# nothing\n")
    with pytest.raises(ScanError, match="a.obj: .*it has no line of a vertex"):
        read_cloud(path)
    normals = [f"vn {x} {y:.3f} {z:.3f}" for x, y, z in NORMAL]
    np.testing.assert_allclose(read_cloud(write_obj(path, XYZ, *normals)).normal, NORMAL, atol=1e-6)
    with pytest.raises(ScanError, match="5 numbers"):
        read_cloud(write_obj(path, np.column_stack([XYZ, XYZ[:, :2]])))


def test_columns_that_ply_cannot_hold_as_they_are(tmp_path):
    arrays = {"coord": XYZ, "rgb": COLOUR, "time": np.arange(V) * 10**12, "id": np.arange(V), "on": np.arange(V) > 3}
    arrays |= {"feature x": np.zeros((V, 2), np.float16), "small": np.int8([-1] * V), "über": XYZ[:, 0]}
    arrays |= {"pose": np.eye(4), "name": np.array(["a"] * V), "x": np.ones(V)}
    np.savez(tmp_path / "a.npz", **arrays)
    ply, notes, _ = read_input(tmp_path / "a.npz")
    ply.write(tmp_path / "out.ply")
    types = {name: str(ply["vertex"].data.dtype[name]) for name in ply["vertex"].data.dtype.names}
    assert types == {
        **dict.fromkeys(("x", "y", "z", "time", "_ber", "x_2"), "float64"),
        **dict.fromkeys(("red", "green", "blue", "on"), "uint8"),
        **{"id": "int32", "feature_x_0": "float32", "feature_x_1": "float32", "small": "int8"},
    }
    assert "pose, name" in notes[0] and np.array_equal(ply["vertex"]["time"], arrays["time"])


def test_texts_beside_clouds_are_no_clouds(tmp_path, capsys):
    write(tmp_path / "room.txt")
    (tmp_path / "notes.txt").write_text("scanned on Monday, 3 rooms\n")
    assert [*find_clouds(tmp_path)] == ["room"]
    assert "notes.txt: is no table of numbers, and left out" in capsys.readouterr().out


def test_every_ending_has_a_test():
    assert {name[name.index(".") :] for name in EVERY} == READERS.keys()


def test_an_archive_in_an_archive_is_no_bomb(tmp_path):
    """A member that only unpacks to much: its own header says so, or the array's does."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("xyz.npy", npy_header((V, 3)) + XYZ.tobytes())
        archive.writestr("inner.zip", zlib.compress(bytes(10**7), 9))
    assert len(read_cloud(tmp_path / "a.npz").xyz) == V


@pytest.mark.parametrize("name", [*PCDS, "a.e57", "a.obj", "a.csv", "a.laz"])
def test_damaged_files(tmp_path, monkeypatch, name):
    """Some values, or a ScanError; never much memory."""
    path = write(tmp_path / name)
    words = [b"SIZE 4", b"COUNT 1", b"60", b"float", b"f 1 2 3", b"nan", b"\xff" * 4, b"\0" * 4]
    monkeypatch.setattr(stored, "FREE", 2**20)

    @settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(content=edited(path.read_bytes(), words))
    def check(content):
        path.write_bytes(content)
        attempt(lambda: read_cloud(path), len(content))
        attempt(lambda: read_input(path), len(content))

    check()
