import json
import os
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from plyfile import PlyData, PlyElement

from data.ply import ScanError, read_mesh, vertex_normals
from data.scannet import named_categories, read_label_table, read_scan, scan_files

NYU40 = np.repeat([1, 2, 5, 0], 9)  # of the fixture's scan: four segments of nine vertices, the last unannotated


def edit_ply(path, edit):
    """Rewrite the PLY file with `edit(vertex array, face array)` applied in place, or with the arrays it returns."""
    ply = PlyData.read(str(path), mmap=False)
    face = ply["face"]
    vertices, face.data = edit(ply["vertex"].data, face.data) or (ply["vertex"].data, face.data)
    vertex = PlyElement.describe(repack_fields(vertices), "vertex")
    PlyData([vertex, face], text=ply.text, byte_order=ply.byte_order).write(str(path))


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


# What is read


@pytest.mark.parametrize("encoding", [{}, {"byte_order": ">"}, {"text": True}], ids=["little", "big", "ascii"])
@pytest.mark.parametrize("label_type", ["u1", "i1", "u2", "i4"])
def test_reads_every_encoding(write_raw_scan, encoding, label_type):
    scan = read_scan(write_raw_scan(label_type=label_type, **encoding))
    assert scan.name == "scene0000_00"
    np.testing.assert_allclose(scan.xyz[:8, 0], [0, 0, 0, 0, 0, 0, 0.1, 0.1], rtol=1e-6)  # in the mesh's order
    assert (scan.xyz.dtype, scan.xyz.shape) == (np.float32, (36, 3))
    assert (scan.colour.dtype, scan.colour.shape) == (np.uint8, (36, 3))
    assert (scan.faces.dtype, scan.faces.shape) == (np.int32, (50, 3))
    np.testing.assert_array_equal(scan.faces[0], [0, 6, 1])
    assert scan.label.dtype == np.uint16
    np.testing.assert_array_equal(scan.label, NYU40)


def test_encodings_agree(write_raw_scan, tmp_path):
    scans = [read_scan(write_raw_scan(root=tmp_path / order, byte_order=order)) for order in "<>"]
    np.testing.assert_array_equal(scans[0].xyz, scans[1].xyz)
    np.testing.assert_array_equal(scans[0].colour, scans[1].colour)
    np.testing.assert_array_equal(scans[0].faces, scans[1].faces)


def test_colours_by_name(write_raw_scan):
    """The fixture stores red first, then the position, then green and blue."""
    folder = write_raw_scan()
    raw = PlyData.read(str(scan_files(folder)["mesh"]))["vertex"]
    np.testing.assert_array_equal(read_scan(folder).colour, np.stack([raw["red"], raw["green"], raw["blue"]], 1))


def test_a_scan_without_labels(write_raw_scan):
    folder = write_raw_scan(labelled=False)
    assert read_scan(folder).label is None
    assert read_scan(folder, {"wall": 1}).label is None


def test_a_cloud_without_faces(write_raw_scan):
    folder = write_raw_scan(labelled=False)
    mesh = scan_files(folder)["mesh"]
    PlyData([PlyData.read(str(mesh), mmap=False)["vertex"]]).write(str(mesh))
    assert read_scan(folder).faces.shape == (0, 3)
    cloud = read_mesh(mesh)
    assert not vertex_normals(cloud.xyz, cloud.faces).any()


@pytest.mark.parametrize("name", ["scene0270_00", "scene0270_02", "scene0384_00"])
def test_known_stray_labels_are_unannotated(write_raw_scan, name):
    folder = write_raw_scan(name)
    stray = 149 if name == "scene0384_00" else 50
    edit_ply(scan_files(folder)["labels"], lambda vertex, face: vertex["label"].__setitem__(slice(0, 9), stray))
    np.testing.assert_array_equal(read_scan(folder).label, np.repeat([0, 2, 5, 0], 9))
    edit_ply(scan_files(folder)["labels"], lambda vertex, face: vertex["label"].__setitem__(0, stray + 1))
    with pytest.raises(ScanError, match=f"labels.ply: labels {stray + 1} are not nyu40 ids"):
        read_scan(folder)


def test_labels_from_segments(write_raw_scan, label_table_file):
    """The table decides, not labels.ply, which says something else here."""
    folder = write_raw_scan()
    edit_ply(scan_files(folder)["labels"], lambda vertex, face: vertex["label"].fill(40))
    table = read_label_table(label_table_file)
    np.testing.assert_array_equal(read_scan(folder, table).label, NYU40)
    np.testing.assert_array_equal(read_scan(folder).label, 40)


def test_an_instance_listed_twice(write_raw_scan):
    folder = write_raw_scan("scene0217_00")
    edit_json(scan_files(folder)["aggregation"], lambda content: content["segGroups"].extend(content["segGroups"]))
    np.testing.assert_array_equal(read_scan(folder, {"wall": 1, "floor": 2, "office chair": 5}).label, NYU40)


def test_category_names(write_raw_scan):
    """Padded names are the name, unknown ones are unannotated; an instance without segments is nothing."""
    folder = write_raw_scan()

    def rename(content):
        content["segGroups"][0]["label"] = "  wall "
        content["segGroups"][1]["label"] = "never heard of"
        content["segGroups"].append({"label": "wall", "segments": []})

    edit_json(scan_files(folder)["aggregation"], rename)
    scan = read_scan(folder, {"wall": 1, "floor": 2, "office chair": 5})
    np.testing.assert_array_equal(scan.label, np.repeat([1, 0, 5, 0], 9))
    assert scan.unknown == {"never heard of": 1}
    with pytest.raises(ScanError, match="aggregation.json: no label is left.*'wall' .2, 'Wall' is probably meant"):
        read_scan(folder, {"Wall": 1})
    assert not read_scan(folder, dict.fromkeys(["wall", "never heard of", "office chair"], 0)).label.any()


def test_the_ten_commonest_categories_are_named():
    unknown = Counter({f"thing {number}": number for number in range(1, 13)})
    named = named_categories(unknown, {"Thing 12": 3})
    assert named.startswith("'thing 12' (12, 'Thing 12' is probably meant), 'thing 11' (11)")
    assert "'thing 3' (3)" in named and "'thing 2'" not in named and named.endswith("and 2 more")


def test_the_other_aggregation_is_not_read(write_raw_scan):
    folder = write_raw_scan(labelled=False)
    (folder / "scene0000_00_vh_clean.aggregation.json").write_text("{}")
    (folder / "scene0000_00_vh_clean.segs.json").write_text("{}")
    assert read_scan(folder, {"wall": 1}).label is None


def test_axis_alignment(write_raw_scan):
    folder = write_raw_scan()
    wanted = [[0, -1, 0, 2], [1, 0, 0, 3], [0, 0, 1, 0], [0, 0, 0, 1]]  # row-major
    np.testing.assert_array_equal(read_scan(folder).axis_alignment, wanted)
    scan_files(folder)["info"].write_text("sceneType = Office\n")
    assert read_scan(folder).axis_alignment is None
    scan_files(folder)["info"].unlink()
    assert read_scan(folder).axis_alignment is None


def test_vertex_normals():
    """Edge 0-1 joins a triangle of area 1/2 that faces up and one of area 1 that faces -y; vertex 4 is in none."""
    xyz = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, -2], [9, 9, 9]], np.float32)
    normal = vertex_normals(xyz, np.array([[0, 1, 2], [0, 3, 1]], np.int32))
    assert normal.dtype == np.float32
    shared = np.array([0, -2, 1]) / np.sqrt(5)
    np.testing.assert_allclose(normal, [shared, shared, [0, 0, 1], [0, -1, 0], [0, 0, 0]], rtol=1e-6, atol=1e-7)


# What is refused


def truncate(keep):
    return lambda path: path.write_bytes(path.read_bytes()[:keep])


def set_vertex(field, value):
    return lambda path: edit_ply(path, lambda vertex, face: vertex[field].__setitem__(3, value))


def drop_property(field):
    def edit(vertex, face):
        return vertex[[name for name in vertex.dtype.names if name != field]], face

    return lambda path: edit_ply(path, edit)


def retype(field, dtype):
    def edit(vertex, face):
        return vertex.astype(
            [(name, dtype if name == field else vertex.dtype[name]) for name in vertex.dtype.names]
        ), face

    return lambda path: edit_ply(path, edit)


def move(path, **by):
    def edit(vertex, face):
        for axis, distance in by.items():
            vertex[axis] += distance

    edit_ply(path, edit)


def set_face(corners):
    def edit(vertex, face):
        face["vertex_indices"][1] = np.array(corners, np.int32)

    return lambda path: edit_ply(path, edit)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "missing"),
        (truncate(0), "truncated, or not a PLY"),
        (truncate(100), "truncated, or not a PLY"),
        (truncate(600), "truncated, or not a PLY"),
        (truncate(-30), "truncated, or not a PLY"),
        (lambda path: path.write_bytes(b"solid STL\n" * 50), "truncated, or not a PLY"),
        (lambda path: path.write_bytes(b"ply\n\xff\xfe\x00" * 50), "truncated, or not a PLY"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"vertex 36", b"vertex 99999999999")), "truncated"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"vertex 36", b"vertex x")),
            "truncated, or not a PLY",
        ),
        (lambda path: edit_ply(path, lambda vertex, face: (vertex[:0], face[:0])), "no vertices"),
        (set_vertex("x", np.nan), "1 vertices have NaN or infinite"),
        (set_vertex("x", 4000.0), "spans 4e.03 m, more than 1000: coordinates have to be in metres"),
        (set_vertex("z", np.inf), "1 vertices have NaN or infinite"),
        (drop_property("y"), "no vertex property 'y'"),
        (drop_property("blue"), "no vertex property 'blue'"),
        (retype("red", "f4"), "vertex property 'red' has the wrong type"),
        (retype("red", "u2"), "colours are uint16, not uchar"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"vertex_indices", b"vertex_indicez")),
            "'face' has the list 'vertex_indicez'; only a face can have lists: vertex_indices",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"element vertex", b"element vertix")),
            "vertex property 'x'",
        ),
        (set_face([0, 1, 36]), "vertices 0 to 36 of 36"),
        (set_face([0, 1, -1]), "vertices -1 to 35 of 36"),
        (set_face([0, 1]), "face 1 has 2 corners.* use triangles"),
        (set_face(range(17)), "face 1 has 17 corners.* use triangles"),
    ],
)
@pytest.mark.parametrize("text", [False, True], ids=["binary", "ascii"])
def test_bad_mesh(write_raw_scan, spoil, message, text):
    folder = write_raw_scan(text=text)
    mesh = scan_files(folder)["mesh"]
    spoil(mesh)
    with pytest.raises(ScanError, match=message) as caught:
        read_scan(folder)
    assert str(mesh) in str(caught.value)


def replace_bytes(old, new):
    def spoil(path):
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return spoil


def append(rest):
    return lambda path: path.write_bytes(path.read_bytes() + rest)


def add_element(text):
    """Declare another element, whose rows would be zeros; of those there are a hundred bytes."""

    def spoil(path):
        rows = b"0\n" * 50 if b"format ascii" in path.read_bytes() else bytes(100)
        path.write_bytes(
            path.read_bytes().replace(b"end_header\n", f"element junk {text}\nend_header\n".encode()) + rows
        )

    return spoil


BAD_HEADERS = {  # fault: (how to make it, what the error says)
    "10^12 vertices": (replace_bytes(b"vertex 36", b"vertex 1000000000000"), "1000000000000 rows of 'vertex'"),
    "10^30 vertices": (replace_bytes(b"vertex 36", b"vertex 1" + b"0" * 30), "declares 10* rows of 'vertex'"),
    "10^5000 vertices": (replace_bytes(b"vertex 36", b"vertex 1" + b"0" * 5000), "truncated, or not a PLY"),
    "-36 vertices": (replace_bytes(b"vertex 36", b"vertex -36"), "declares -36 rows of 'vertex'"),
    "-1 faces": (replace_bytes(b"face 50", b"face -1"), "declares -1 rows of 'face'"),
    "10^12 faces": (replace_bytes(b"face 50", b"face 1000000000000"), "declares 1000000000000 rows of 'face'"),
    "500 faces of 50": (replace_bytes(b"face 50", b"face 500"), "values, the file has|early end-of-file"),
    "49 faces of 50": (replace_bytes(b"face 50", b"face 49"), "data after the last element"),
    "10^12 rows of no bytes": (add_element("1000000000000"), "1000000000000 rows of 'junk'"),
    "10^12 rows of a byte": (add_element("1000000000000\nproperty uchar a"), "1000000000000 rows of 'junk'"),
    "1000 rows of 1000 values": (
        add_element("1000\n" + "\n".join(f"property double a{i}" for i in range(1000))),
        "values, the file has",
    ),
    "lists of up to 32 GB": (add_element("10\nproperty list uint double a"), "'junk' has the list 'a'"),
    "lists of negative length": (add_element("10\nproperty list char int a"), "'junk' has the list 'a'"),
    "lists of a vertex": (replace_bytes(b"property uchar alpha", b"property list uchar int alpha"), "'vertex' has the"),
    "faces of floats": (
        replace_bytes(b"list uchar int", b"list uchar float"),
        "not a list of integers|wrong type .*float",
    ),
    "faces that are no lists": (replace_bytes(b"list uchar int", b"int"), "end-of-line|data after the last"),
    "a header of a megabyte": (
        replace_bytes(b"comment", b"comment" + b"x" * 10**6),
        "no header of at most 65536 bytes",
    ),
    "no end of the header": (replace_bytes(b"end_header\n", b"end_headers\n"), "no header of at most 65536 bytes"),
    "a property of nothing": (replace_bytes(b"element vertex", b"property int a\nelement vertex"), "not a PLY"),
    "an element without a count": (replace_bytes(b"element vertex 36", b"element vertex"), "not a PLY"),
    "no line end": (replace_bytes(b"ply\n", b"ply"), "truncated, or not a PLY"),
    "text at the end": (append(b"junk"), "data after the last element"),
    "zeros at the end": (append(bytes(15)), "data after the last element"),
    "no ASCII at the end": (append(b"\xff"), "truncated, or not a PLY"),
}


@pytest.mark.parametrize("fault", BAD_HEADERS)
@pytest.mark.parametrize("text", [False, True], ids=["binary", "ascii"])
def test_a_header_that_is_not_the_files(write_raw_scan, fault, text):
    """Refused, and no memory taken for it."""
    spoil, message = BAD_HEADERS[fault]
    mesh = scan_files(write_raw_scan(text=text))["mesh"]
    replace_bytes(b"1.0\n", b"1.0\ncomment\n")(mesh)
    read_mesh(mesh)
    spoil(mesh)
    tracemalloc.start()
    with pytest.raises(ScanError, match=message):
        read_mesh(mesh)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # bytes


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
def test_line_ends(write_raw_scan, newline):
    mesh = scan_files(write_raw_scan(text=True))["mesh"]
    expected = read_mesh(mesh)
    mesh.write_bytes(mesh.read_bytes().replace(b"\n", newline) + newline)
    for array, wanted in zip(read_mesh(mesh), expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_texture_coordinates(write_raw_scan):
    """A second list a face, as MeshLab writes it."""
    mesh = scan_files(write_raw_scan())["mesh"]
    faces = read_mesh(mesh).faces
    textured = np.zeros(len(faces), [("vertex_indices", "i4", (3,)), ("texcoord", "f4", (6,))])
    textured["vertex_indices"] = faces
    vertex = PlyElement.describe(np.array(PlyData.read(str(mesh))["vertex"].data), "vertex")
    PlyData([vertex, PlyElement.describe(textured, "face")]).write(str(mesh))
    np.testing.assert_array_equal(read_mesh(mesh).faces, faces)


@pytest.mark.parametrize("text", [False, True], ids=["binary", "ascii"])
def test_polygons_are_cut_into_triangles(write_raw_scan, text):
    """In the faces' order; the area of the triangles is the polygons'."""
    mesh = scan_files(write_raw_scan(text=text))["mesh"]
    corners = [[0, 6, 1], [7, 8, 14, 13], [0, 1, 2, 3, 9]]

    def polygons(vertex, face):
        face = face[:3].copy()
        for row, indices in enumerate(corners):
            face["vertex_indices"][row] = np.array(indices, np.int32)
        return vertex, face

    edit_ply(mesh, polygons)
    wanted = [[0, 6, 1], [7, 8, 14], [7, 14, 13], [0, 1, 2], [0, 2, 3], [0, 3, 9]]
    np.testing.assert_array_equal(read_mesh(mesh).faces, wanted)


def test_a_list_that_could_be_longer_than_the_file_is_not_read_row_by_row(write_raw_scan):
    """A face of 10^9 corners by its 32-bit count: refused, and no memory taken for it."""
    mesh = scan_files(write_raw_scan())["mesh"]
    triangles = np.array([(10**9, [0, 1, 2])] * 50, [("n", "<u4"), ("corners", "<i4", (3,))])
    head, _, body = mesh.read_bytes().partition(b"end_header\n")
    head = head.replace(b"list uchar int", b"list uint int")
    mesh.write_bytes(head + b"end_header\n" + body[: -50 * 13] + triangles.tobytes())
    tracemalloc.start()
    with pytest.raises(ScanError, match="truncated, or not a PLY"):
        read_mesh(mesh)
    assert tracemalloc.get_traced_memory()[1] < 4e6  # bytes
    tracemalloc.stop()


@pytest.mark.parametrize("text", [False, True], ids=["binary", "ascii"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_headers_as_people_write_them(write_raw_scan, text, newline):
    """A comment that is not ASCII, and indented lines."""
    mesh = scan_files(write_raw_scan(text=text))["mesh"]
    expected = read_mesh(mesh)
    head, end, body = mesh.read_bytes().partition(b"end_header\n")
    head = head.replace(b"1.0\n", "1.0\ncomment Küche, 2. Stock\n".encode()).replace(b"property", b"\t property")
    if text:
        body = body.replace(b"\n", newline)
    mesh.write_bytes((head + b"  " + end).replace(b"\n", newline) + body)
    for array, wanted in zip(read_mesh(mesh), expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_a_mesh_without_colours(write_raw_scan):
    mesh = scan_files(write_raw_scan())["mesh"]
    for channel in ("red", "green", "blue"):
        drop_property(channel)(mesh)
    assert read_mesh(mesh).colour is None


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_map_coordinates_keep_their_precision(write_raw_scan, dtype):
    """Moved by whole metres where float32 would round them; what a float32 file has lost is not invented."""
    folder = write_raw_scan()
    before = read_scan(folder)
    assert before.offset is None and before.step < 1e-6
    east, north = (450_000.25, 5_411_932.5) if dtype == "f8" else (450_000.0, 5_411_932.0)
    for role in ("mesh", "labels"):
        path = scan_files(folder)[role]
        retype("x", dtype)(path)
        retype("y", dtype)(path)
        move(path, x=east, y=north)
    scan = read_scan(folder)
    assert scan.xyz.dtype == np.float32 and scan.offset.dtype == np.float64
    np.testing.assert_array_equal(scan.offset, np.floor(scan.offset))
    moved = scan.xyz + scan.offset - [east, north, 0]
    if dtype == "f8":
        assert scan.step < 1e-6
        np.testing.assert_allclose(moved, before.xyz, atol=1e-6)
        np.testing.assert_allclose(
            vertex_normals(scan.xyz, scan.faces), vertex_normals(before.xyz, before.faces), atol=1e-3
        )
    else:
        assert scan.step == 0.5  # m, of float32 beyond 2^22


def test_labels_of_vertices_in_another_order(write_raw_scan):
    """As Open3D, MeshLab and CloudCompare may write them."""
    folder = write_raw_scan()
    labels = scan_files(folder)["labels"]
    kept = labels.read_bytes()
    edit_ply(labels, lambda vertex, face: (vertex[np.r_[0:5, 6, 5, 7:36]], face))
    with pytest.raises(ScanError, match=r"labels.ply: .*another order: vertex 5 is at 0\.100 0\.000 .* 0\.000 0\.500"):
        read_scan(folder)
    labels.write_bytes(kept)
    set_vertex("z", 0.5)(labels)
    with pytest.raises(ScanError, match="vertex 3 is at"):
        read_scan(folder)
    set_vertex("z", np.nan)(labels)
    with pytest.raises(ScanError, match="vertex 3 is at"):
        read_scan(folder)
    drop_property("z")(labels)
    with pytest.raises(ScanError, match="labels.ply: .*no vertex property 'z'"):
        read_scan(folder)
    labels.write_bytes(kept)
    move(labels, x=0.0004)  # another tool's rounding
    np.testing.assert_array_equal(read_scan(folder).label, NYU40)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("role", ["mesh", "labels", "segments", "aggregation", "info"])
def test_a_pipe_or_a_folder_is_a_missing_file(write_raw_scan, role, make):
    """And nothing waits for the pipe."""
    folder = write_raw_scan()
    path = scan_files(folder)[role]
    path.unlink()
    make(path)
    if role == "info":
        assert read_scan(folder).axis_alignment is None
    else:
        with pytest.raises(ScanError, match=f"{path.name}: missing"):
            read_scan(folder, None if role == "labels" else {"wall": 1})


def test_float64_beyond_float32(write_raw_scan):
    folder = write_raw_scan()
    mesh = scan_files(folder)["mesh"]
    retype("x", "f8")(mesh)
    assert read_scan(folder).xyz.dtype == np.float32
    set_vertex("x", 1e300)(mesh)
    with pytest.raises(ScanError, match="NaN or infinite"):
        read_scan(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate(50), "truncated, or not a PLY"),
        (drop_property("label"), "no vertex property 'label'"),
        (retype("label", "f4"), "vertex property 'label' has the wrong type"),
        (set_vertex("label", 41), "labels 41 are not nyu40 ids .0 to 40"),
        (set_vertex("label", -1), "label holds -1 to 5; ids go from 0"),
        (set_vertex("label", 50), "labels 50 are not nyu40 ids"),  # stray in two scans, wrong in every other
        (
            lambda path: edit_ply(path, lambda vertex, face: (vertex[:35], face[:0])),
            "35 labels for the mesh's 36 vertices",
        ),
    ],
)
def test_bad_labels(write_raw_scan, spoil, message):
    folder = write_raw_scan(label_type="i2")
    labels = scan_files(folder)["labels"]
    spoil(labels)
    with pytest.raises(ScanError, match=message) as caught:
        read_scan(folder)
    assert str(labels) in str(caught.value)


def put(key, value):
    return lambda path: edit_json(path, lambda content: content.__setitem__(key, value))


def put_in_group(key, value):
    return lambda path: edit_json(path, lambda content: content["segGroups"][1].__setitem__(key, value))


BAD_JSON = [
    (lambda path: path.write_text("{"), "not readable as JSON"),
    (lambda path: path.write_text(""), "not readable as JSON"),
    (lambda path: path.write_bytes(b'{"a": "\xff"}'), "not readable as JSON"),
    (lambda path: path.write_text('{"a":' + "[" * 100_000), "not readable as JSON"),
    (lambda path: path.write_text("[1, 2]"), "holds a JSON list, not an object"),
]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *BAD_JSON,
        (lambda path: path.unlink(), "missing, and labels from the label table need it"),
        (lambda path: path.write_text("{}"), "'segIndices' is not a list of integers"),
        (put("segIndices", {"0": 1}), "'segIndices' is not a list of integers"),
        (put("segIndices", [0.5] * 36), "'segIndices' is not a list of integers"),
        (put("segIndices", ["0"] * 36), "'segIndices' is not a list of integers"),
        (put("segIndices", [True] * 36), "'segIndices' is not a list of integers"),
        (put("segIndices", [[0], [0, 1]]), "'segIndices' is not a list of integers"),
        (put("segIndices", [10**30] * 36), "'segIndices' is not a list of integers"),
        (put("segIndices", [0] * 35), "35 segment indices for the mesh's 36 vertices"),
        (put("segIndices", []), "0 segment indices for the mesh's 36 vertices"),
        (put("segIndices", [0] * 35 + [-2]), "negative segment index -2"),
    ],
)
def test_bad_segments(write_raw_scan, spoil, message):
    folder = write_raw_scan()
    spoil(scan_files(folder)["segments"])
    with pytest.raises(ScanError, match=message) as caught:
        read_scan(folder, {"wall": 1})
    assert str(scan_files(folder)["segments"]) in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *BAD_JSON,
        (lambda path: path.write_text("{}"), "'segGroups' is not a list"),
        (put("segGroups", {}), "'segGroups' is not a list"),
        (put("segGroups", [3]), r"segGroups\[0\] has no 'label'"),
        (put_in_group("label", None), r"segGroups\[1\] has no 'label'"),
        (put_in_group("label", 4), r"segGroups\[1\] has no 'label'"),
        (put_in_group("segments", None), r"segGroups\[1\].segments' is not a list of integers"),
        (put_in_group("segments", [10, 1.5]), r"segGroups\[1\].segments' is not a list of integers"),
        (put_in_group("segments", [10, 11]), r"segGroups\[1\] lists segment 11, which no vertex has"),
        (put_in_group("segments", [40]), "lists segment 40, which no vertex has"),
        (put_in_group("segments", [-10]), "lists segment -10, which no vertex has"),
    ],
)
def test_bad_aggregation(write_raw_scan, spoil, message):
    folder = write_raw_scan()
    spoil(scan_files(folder)["aggregation"])
    with pytest.raises(ScanError, match=message) as caught:
        read_scan(folder, {"wall": 1})
    assert str(scan_files(folder)["aggregation"]) in str(caught.value)


@pytest.mark.parametrize("groups", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_million_groups(write_raw_scan, groups):
    """A group costs the same however many segments there are, and the last one counts."""
    folder = write_raw_scan(side=300)  # 90,000 vertices, each a segment
    put("segIndices", list(range(90_000)))(scan_files(folder)["segments"])
    group = '{"label": "%s", "segments": [%d]}'
    listed = ",".join(group % (("wall", "floor")[i >= groups - 1000], i % 90_000) for i in range(groups))
    scan_files(folder)["aggregation"].write_text(f'{{"segGroups": [{listed}]}}')
    start = time.perf_counter()
    nyu40 = read_scan(folder, {"wall": 1, "floor": 2}).label
    assert time.perf_counter() - start < 30e-6 * groups  # seconds; a tenth of it on a quiet machine
    last = np.arange(groups - 1000, groups) % 90_000
    assert (nyu40[last] == 2).all() and (np.delete(nyu40, last) == 1).all()


def test_labels_from_the_other_source_are_not_taken_silently(write_raw_scan):
    folder = write_raw_scan()
    scan_files(folder)["labels"].rename(folder / "away")
    with pytest.raises(ScanError, match="labels.ply: missing, though the scan is annotated.*--labels"):
        read_scan(folder)
    (folder / "away").rename(scan_files(folder)["labels"])
    scan_files(folder)["aggregation"].unlink()
    with pytest.raises(ScanError, match="aggregation.json: missing, and with a label table.*drop --labels"):
        read_scan(folder, {"wall": 1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "not 16 numbers"),
        ("1 0 0", "not 16 numbers"),
        ("1 " * 17, "not 16"),
        ("x " * 16, "not 16"),
        ("nan " * 16, "NaN"),
        ("0 " * 16, "no rigid motion"),
        ("-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "no rigid motion"),  # a mirror
        ("1.01 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "no rigid motion"),
        ("1 0 0 0 0 1 0 0 0 0 1 0 2 3 0 1", "no rigid motion"),  # by columns
    ],
)
def test_bad_axis_alignment(write_raw_scan, value, message):
    folder = write_raw_scan()
    scan_files(folder)["info"].write_text(f"axisAlignment = {value}\n")
    with pytest.raises(ScanError, match=f"scene0000_00.txt: axisAlignment .*{message}"):
        read_scan(folder)


@pytest.mark.parametrize(
    "key",
    ["axisalignment =", "axis_alignment =", "axisAlignement=", "AxisAlignment =", "axisAlignment:", "axisAlignment"],
)
def test_a_misspelt_axis_alignment(write_raw_scan, key):
    folder = write_raw_scan()
    scan_files(folder)["info"].write_text(f"sceneType = Office\n{key} 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n")
    with pytest.raises(ScanError, match="scene0000_00.txt: has the key '[aA]xis.*to be written axisAlignment = 16"):
        read_scan(folder)


def test_a_byte_order_mark_is_no_part_of_the_key(write_raw_scan):
    folder = write_raw_scan()
    expected, info = read_scan(folder).axis_alignment, scan_files(folder)["info"]
    info.write_text("\ufeff" + info.read_text(), encoding="utf-8")
    np.testing.assert_array_equal(read_scan(folder).axis_alignment, expected)


def test_a_missing_folder(tmp_path):
    with pytest.raises(ScanError, match="scene0000_00: no such folder"):
        read_scan(tmp_path / "scene0000_00")


# The label table


def test_label_table(label_table_file):
    assert read_label_table(label_table_file) == {"wall": 1, "floor": 2, "office chair": 5, "pillow": 18}


def test_label_table_details(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("\ufeffnyu40id \t raw_category\n1\twall\n\n\tno id\n3\t cabinet\n4\tcabinet\n", encoding="utf-8")
    assert read_label_table(path) == {"wall": 1, "no id": 0, "cabinet": 4}


def test_quotes_in_the_label_table(tmp_path):
    """A name is known as it stands there and as a spreadsheet reads it, and an odd quote ends no line."""
    path = tmp_path / "table.tsv"
    rows = [
        'raw_category\t"nyu40id"',
        '"L" shaped desk\t14',
        '"a ""big"" box"\t39',
        '"24 inch screen\t40',
        'desk"\t"14"',
    ]
    path.write_text("\n".join(rows))
    table = read_label_table(path)
    assert table['"L" shaped desk'] == table["L shaped desk"] == table['desk"'] == 14
    assert table['a "big" box'] == 39 and table['"24 inch screen'] == 40
    path.write_text('raw_category\tnyu40id\nL shaped desk\t7\n"L" shaped desk\t14\n')
    assert read_label_table(path)["L shaped desk"] == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'raw_category'"),
        (
            "category\tcount\tnyuId\tnyu40id\nwall\t1\t21\t1\n",
            "no column 'raw_category' .it has: category, count.*v1 table",
        ),
        ("raw_category\tid\nwall\t1\n", "no column 'nyu40id'"),
        ("raw_category,nyu40id\nwall,1\n", "no column 'raw_category'"),
        ("raw_category\tnyu40id\nwall\tone\n", "row 2 has no raw_category or no integer nyu40id"),
        ("raw_category\tnyu40id\nfloor\t2\nwall\n", "row 3 has no raw_category or no integer nyu40id"),
        ("nyu40id\traw_category\n2\n", "row 2 has no raw_category or no integer nyu40id"),
        ("raw_category\tnyu40id\nwall\t41\n", "row 2 has nyu40id 41, not 0 to 40"),
        ("raw_category\tnyu40id\nwall\t-1\n", "row 2 has nyu40id -1"),
        ("raw_category\tnyu40id\nw\xffll\t1\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_bad_label_table(tmp_path, content, message):
    path = tmp_path / "table.tsv"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(ScanError, match=message) as caught:
        read_label_table(path)
    assert str(path) in str(caught.value)
