"""Hostile files of every kind that is read: a result as documented or the project's own error, in bounded memory.

Files are whole ones with edits, or made of the format's words in any order. The slow runs try other files each time.
"""

import json
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scenes import ALL, make_manifest, make_scene

from data.labels import SCANNET20
from data.ply import ScanError, read_mesh
from data.scannet import NUM_NYU40, read_label_table, read_scan, scan_files
from data.scenes import FILTERS, SceneError, read_manifest, read_scene, write_scene

MEMORY = 4e6, 100  # bytes, and times the file's size: no reader takes more
SECONDS = 2  # nor longer, for files of a few kilobytes on a busy machine


@pytest.fixture(params=[100, pytest.param(3000, marks=pytest.mark.slow)])
def fuzz(request):
    """Hypothesis's settings: few and always the same examples, or many and others each time."""
    return settings(
        max_examples=request.param,
        derandomize=request.param == 100,
        deadline=1000 * SECONDS,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


def attempt(read, size):
    """What `read()` returns, or None if it refuses the file of `size` bytes with the project's error."""
    tracemalloc.start()
    try:
        return read()
    except (ScanError, SceneError) as error:
        assert len(str(error)) < 10_000  # to be read by somebody
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY[0] + MEMORY[1] * size


@st.composite
def edited(draw, content, words=()):
    """`content` (bytes) with a few flips, deletions, insertions and cuts; those of `words` replace each other, too."""
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        if not content:
            break
        start = draw(st.integers(0, len(content) - 1))
        kind = draw(
            st.sampled_from(["flip", "overwrite", "insert", "delete", "repeat", "cut", *["word"] * bool(words)])
        )
        end = min(start + draw(st.integers(1, 40)), len(content))
        if kind == "flip":
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            content[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
        elif kind == "insert":
            content[start:start] = draw(st.binary(max_size=20))
        elif kind == "delete":
            del content[start:end]
        elif kind == "repeat":
            content[start:start] = content[start:end] * draw(st.integers(1, 5))
        elif kind == "cut":
            del content[start:]
        else:
            old = draw(st.sampled_from([word for word in words if word in content] or [b""]))
            position = content.find(old, draw(st.sampled_from([0, start])))
            if position >= 0:
                content[position : position + len(old)] = draw(st.sampled_from(words))
    return bytes(content)


COUNTS = ["0", "1", "3", "-1", "8", "9", "100000000", "1000000000000", "9" * 30, "1e3", "0x10", "x", ""]
PLY_TYPES = ["char", "uchar", "short", "ushort", "int", "uint", "float", "double", "int8", "float64", "long", "list"]
PLY_NAMES = ["x", "y", "z", "red", "green", "blue", "vertex_indices", "vertex_index", "texcoord", "label", "a"]
PLY_WORDS = [*COUNTS, *PLY_TYPES, *PLY_NAMES, "element", "property", "vertex", "face", "format", "ascii", "end_header"]
PLY_WORDS += ["binary_little_endian", "binary_big_endian", "comment", "obj_info", "\n", "\r\n", "\r", " ", "\t", "\x1c"]


@st.composite
def ply_files(draw):
    """A header whose elements, counts and properties are any, and a body of numbers or bytes."""
    form = draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = ["ply", f"format {form} 1.0"]
    scalar = st.tuples(st.sampled_from(PLY_TYPES), st.sampled_from(PLY_NAMES)).map(" ".join)
    listed = st.tuples(st.just("list"), *[st.sampled_from(PLY_TYPES)] * 2, st.sampled_from(PLY_NAMES)).map(" ".join)
    for name in draw(st.lists(st.sampled_from(["vertex", "face", "junk"]), max_size=3)):
        lines.append(f"element {name} {draw(st.sampled_from(COUNTS))}")
        if name == "vertex" and draw(st.booleans()):
            lines += [f"property float {axis}" for axis in "xyz"]
            lines += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
        if name == "face" and draw(st.booleans()):
            lines.append("property list uchar int vertex_indices")
        lines += [f"property {text}" for text in draw(st.lists(scalar | listed, max_size=3))]
    header = newline.join([*lines, "end_header", ""]).encode()
    if form != "ascii":
        return header + draw(st.binary(max_size=200))
    numbers = st.sampled_from(
        ["0", "1", "2", "3", "255", "256", "-1", "0.5", "nan", "inf", "1e39", "1e999", "9" * 400, "#"]
    )
    rows = draw(st.lists(st.lists(numbers, max_size=8).map(" ".join), max_size=6))
    return header + newline.join(rows).encode()


@pytest.mark.filterwarnings("ignore")  # plyfile's, of empty lists and numbers beyond float32
@pytest.mark.parametrize("encoding", ["little", "big", "ascii", "any"])
def test_ply(write_raw_scan, fuzz, encoding):
    options = {"little": {}, "big": {"byte_order": ">"}, "ascii": {"text": True}, "any": {}}[encoding]
    mesh = scan_files(write_raw_scan(side=3, **options))["mesh"]
    words = [word.encode() for word in PLY_WORDS]
    files = ply_files() if encoding == "any" else edited(mesh.read_bytes(), words)

    @fuzz
    @given(content=files)
    def check(content):
        mesh.write_bytes(content)
        if (result := attempt(lambda: read_mesh(mesh), len(content))) is not None:
            xyz, colour, faces, offset, step = result
            assert xyz.shape == (len(xyz), 3) and faces.shape == (len(faces), 3) and step >= 0
            assert (xyz.dtype, faces.dtype) == (np.float32, np.int32)
            assert colour is None or (colour.shape, colour.dtype) == (xyz.shape, np.uint8)
            assert offset is None or (offset.dtype == np.float64 and 0 <= xyz.min() <= xyz.max() <= 1001)
            assert np.isfinite(xyz).all() and len(xyz)
            assert not faces.size or 0 <= faces.min() <= faces.max() < len(xyz)

    check()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-1, 40)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["wall", "room-1", "segIndices", "segments", "label"]),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(st.sampled_from(["label", "segments", "segIndices", "segGroups", "a"]), values, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def edited_json(draw, content):
    """A JSON text: `content` with a node or two replaced, doubled or removed, and perhaps edited as bytes."""
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 2))):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and draw(st.integers(0, 3)):
                node = node[key]
                continue
            change = draw(st.sampled_from(["replace", "remove", "double"]))
            if change == "remove":
                del node[key]
            elif change == "replace":
                node[key] = draw(JSON_VALUES)
            elif isinstance(node, list):
                node.append(node[key])
            break
    text = json.dumps(content).encode()
    return draw(
        edited(text, [b"[", b"]", b"{", b"}", b",", b":", b'"', b"NaN", b"1" * 5000, b"[" * 3000, b"\\ud800"])
        | st.just(text)
    )


def test_segments_and_aggregation(write_raw_scan, fuzz):
    folder = write_raw_scan(side=3)
    files = scan_files(folder)
    whole = {role: json.loads(files[role].read_text()) for role in ("segments", "aggregation")}

    @fuzz
    @given(**{role: edited_json(content) for role, content in whole.items()}, swap=st.booleans())
    def check(segments, aggregation, swap):
        files["segments"].write_bytes(json.dumps(whole["segments"]).encode() if swap else segments)
        files["aggregation"].write_bytes(aggregation)
        scan = attempt(lambda: read_scan(folder, {"wall": 1, "floor": 2}), len(segments) + len(aggregation))
        assert scan is None or (scan.label.shape == (9,) and set(scan.label) <= {0, 1, 2})

    check()


def test_axis_alignment(write_raw_scan, fuzz):
    folder = write_raw_scan(side=3, labelled=False)
    info = scan_files(folder)["info"]

    @fuzz
    @given(content=edited(info.read_bytes(), [b"axisAlignment", b"=", b"\n", b"nan", b"1e999", b" ", b"\x85"]))
    def check(content):
        info.write_bytes(content)
        scan = attempt(lambda: read_scan(folder), len(content))
        matrix = None if scan is None else scan.axis_alignment
        assert matrix is None or (matrix.shape == (4, 4) and np.abs(np.linalg.det(matrix) - 1) < 0.01)

    check()


def test_label_table(tmp_path, fuzz):
    path = tmp_path / "table.tsv"
    whole = b'id\traw_category\tnyu40id\r\n1\twall\t1\r\n2\toffice chair\t5\r\n3\t"quoted"\t\r\n'
    words = [
        b"\t",
        b"\r\n",
        b"\n",
        b'"',
        b"nyu40id",
        b"raw_category",
        b"41",
        b"-1",
        b"\x00",
        b"9" * 5000,
        b"\xef\xbb\xbf",
        b"x" * 140_000,
    ]

    @fuzz
    @given(content=edited(whole, words))
    def check(content):
        path.write_bytes(content)
        table = attempt(lambda: read_label_table(path), len(content))
        assert table is None or all(isinstance(k, str) and 0 <= v < NUM_NYU40 for k, v in table.items())

    check()


def test_manifest(tmp_path, fuzz):
    @fuzz
    @given(content=edited_json(make_manifest() | {"label_space": SCANNET20.as_json()}))
    def check(content):
        (tmp_path / "manifest.json").write_bytes(content)
        manifest = attempt(lambda: read_manifest(tmp_path), len(content))
        if manifest is not None:
            for scan_id in [scan_id for ids in manifest["splits"].values() for scan_id in ids]:
                path = tmp_path / manifest["scenes"][scan_id]["file"]
                assert path.parent == tmp_path / "scenes" and path.resolve() == path
                histogram = manifest["scenes"][scan_id]["histogram"]
                assert all(type(n) is int for entry in histogram.items() for n in entry)
                assert not manifest["label_space"].outside(histogram)

    check()


def test_scene_bytes(tmp_path, fuzz):
    """Damage is refused, or was in no block: what is read then is what was written."""
    path, scene = tmp_path / "a.h5", make_scene()
    write_scene(path, scene)

    @fuzz
    @given(content=edited(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        if (read := attempt(lambda: read_scene(path, ALL), len(content))) is not None:
            for field in ALL:
                np.testing.assert_array_equal(getattr(read, field), getattr(scene, field))

    check()


DTYPES = ["<f4", ">f4", "f8", "f2", "u1", "i1", "i4", "i8", "?", "S5", "c8", [("x", "f4"), ("y", "f4")]]
DTYPES += [h5py.string_dtype(), h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype("u1"), h5py.opaque_dtype("M8[s]")]
SHAPES = [(), (0,), (1,), (40,), (40, 3), (41, 3), (40, 2), (60, 3), (0, 3), (40, 3, 1), (10**12,), (10**12, 3), None]
PIPELINES = [
    {},
    FILTERS,
    FILTERS | {"fletcher32": False},
    {"fletcher32": True},
    {"compression": "lzf"},
    {"scaleoffset": 4},
]


@st.composite
def hostile_scene(draw, path):
    """Write a scene file to `path` some of whose attributes and datasets are others."""
    write_scene(path, make_scene())
    with h5py.File(path, "r+") as file:
        for key in draw(st.lists(st.sampled_from(sorted(file.attrs)), max_size=2, unique=True)):
            del file.attrs[key]
            value = draw(
                st.sampled_from([None, 1, 40, -1, 2**62, 1.0, "text", np.bytes_(b"\xff"), [40], h5py.Empty("i8")])
            )
            if value is not None:
                file.attrs[key] = value
        if draw(st.booleans()):
            file.attrs["vertices"] = vertices = draw(st.sampled_from([1024, 10**8, 10**12]))
            for field in set(ALL) & set(file):
                row = file[field].shape[1:]
                file.create_dataset("other", (vertices, *row), file[field].dtype, chunks=(1024, *row))
                del file[field]
                file.move("other", field)
        for field in draw(st.lists(st.sampled_from(ALL), max_size=3, unique=True)):
            kind = draw(st.sampled_from(["absent", "group", "link", "type", "external", *["dataset"] * 8]))
            if kind == "link":
                target = draw(st.sampled_from([field, "/", "colour", "missing"]))
                other = draw(st.sampled_from([h5py.SoftLink(target), h5py.ExternalLink(path.name, target)]))
                del file[field]
                file[field] = other
                continue
            old = getattr(make_scene(), field)
            del file[field]
            if kind == "group":
                file.create_group(field)
            elif kind == "type":
                file[field] = np.dtype("f4")
            elif kind == "external":
                file.create_dataset(field, old.shape, old.dtype, external=[(path.name, 0, old.nbytes)])
            elif kind == "dataset":
                dtype = draw(st.sampled_from([old.dtype] * 8 + DTYPES))
                shape = draw(st.sampled_from([old.shape] * 8 + SHAPES))
                small = shape is not None and 0 not in shape and 10**12 not in shape
                chunks = (
                    draw(st.sampled_from([None, shape, tuple(-(-n // 2) for n in shape)])) if small and shape else None
                )
                pipeline = draw(st.sampled_from(PIPELINES)) if chunks else {}
                try:
                    if shape == old.shape and dtype == old.dtype:
                        file.create_dataset(field, data=old, chunks=chunks, **pipeline)
                    elif shape is None:
                        file[field] = h5py.Empty(dtype)
                    else:
                        far = {"chunks": (1024,) * len(shape)} if 10**12 in shape else {"chunks": chunks}
                        file.create_dataset(field, shape, dtype, **far, **pipeline)
                except (TypeError, ValueError):  # a filter that is not for the type
                    file.create_group(field)
    return path


def test_scene_structure(tmp_path, fuzz):
    @fuzz
    @given(path=hostile_scene(tmp_path / "a.h5"))
    def check(path):
        scene = attempt(lambda: read_scene(path, ALL), path.stat().st_size)
        if scene is not None:
            write_scene(path, scene)  # which checks that it is as documented

    check()
