"""S3DIS's layout, made here: what is read of it, and what its known faults come to."""

import re

import numpy as np
import pytest

from data import s3dis
from data.labels import label_space
from data.scans import ScanError

SPACE = label_space("s3dis")
LINE = b"1.250 -2.500 0.125 10 20 30"


@pytest.fixture
def write_room(tmp_path):
    """A function that writes a room of {file name: content} and returns its folder; bytes, or (n, 6) numbers."""

    def write(files, name="Area_5/hallway_6"):
        annotations = tmp_path / name / "Annotations"
        annotations.mkdir(parents=True)
        for file, content in files.items():
            if not isinstance(content, bytes):
                content = b"".join(b"%.3f %.3f %.3f %d %d %d\n" % tuple(row) for row in content)
            (annotations / file).write_bytes(content)
        return tmp_path / name

    return write


def points(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-20, 20, (count, 3)).round(3), rng.integers(0, 256, (count, 3))])


def test_a_room_is_its_objects_in_the_order_of_their_files(write_room):
    wall, floor, stairs = points(50), points(40, 1), points(30, 2)
    scan = s3dis.read_room(write_room({"wall_1.txt": wall, "floor_1.txt": floor, "stairs_1.txt": stairs}))
    assert scan.name == "Area_5_hallway_6" and scan.notes == () and scan.offset is None
    np.testing.assert_array_equal(scan.xyz, np.concatenate([floor, stairs, wall])[:, :3].astype(np.float32))
    np.testing.assert_array_equal(scan.colour, np.concatenate([floor, stairs, wall])[:, 3:])
    expected = [SPACE.names.index(name) for name in ("floor", "clutter", "wall")]  # stairs are clutter
    np.testing.assert_array_equal(scan.label, np.repeat(expected, (40, 30, 50)))
    assert (scan.xyz.dtype, scan.colour.dtype, scan.label.dtype) == (np.float32, np.uint8, np.uint16)


def test_classes_are_found_by_name(write_room):
    scan = s3dis.read_room(write_room({"wall_1.txt": points(3), "chair_2.txt": points(2)}))
    assert scan.label.tolist() == [9, 9, 3, 3, 3]
    with pytest.raises(ScanError, match=r"pillar_1.txt: 'pillar' is no class of S3DIS"):
        s3dis.read_room(write_room({"pillar_1.txt": points(3)}, "Area_1/office_1"))


def test_coordinates_far_from_0_are_moved_and_kept_exact(write_room):
    scan = s3dis.read_room(write_room({"wall_1.txt": b"500000.125 6000000.250 1 0 0 0\n"}))
    assert (scan.xyz + scan.offset).tolist() == [[500000.125, 6000000.25, 1]]


@pytest.mark.parametrize(
    ("spoilt", "row"),
    [
        # as distributed, in Area_5/hallway_6 and office_19 and a file of Area_3/hallway_2: 0x20 is lost of a character
        (b"22.350 6.692 3.048 185\x00187 182", [22.35, 6.692, 3.048, 185, 187, 182]),
        (b"22.350000 6.692000 3.048000 103.0\x100000 175.000000 177.000000", [22.35, 6.692, 3.048, 103, 175, 177]),
        (b"19.302 -9.1\x160 1.785 146 137 106", [19.302, -9.16, 1.785, 146, 137, 106]),
        # something else in a blank's place, or too much
        (b"1.250 -2.500 0.125 10\x1020 30", [1.25, -2.5, 0.125, 10, 20, 30]),
        (b"1.250 -2.500 0.125 1\x800 20 30", [1.25, -2.5, 0.125, 10, 20, 30]),
        (b"\xef\xbb\xbf1.250 -2.500 0.125 10 20 30", [1.25, -2.5, 0.125, 10, 20, 30]),
        (b"1.250 -2.500 0.125 10 20", None),
        (b"1.250 -2.500 0.125 10 20 30 40", None),
        (b"1.250 -2.500 ???? 10 20 30", None),
    ],
)
def test_a_spoilt_line_is_mended_or_left_out_and_named(write_room, spoilt, row):
    text = b"\r\n".join([LINE] * 18 + [b"", b" ", spoilt] + [LINE] * 20)
    scan = s3dis.read_room(write_room({"ceiling_1.txt": text, "floor_1.txt": points(5)}))
    (note,) = scan.notes
    assert re.search(rf"Annotations/ceiling_1\.txt: {'left out' if row is None else 'mended'} .*line 21$", note)
    ceiling = np.column_stack([scan.xyz, scan.colour])[scan.label == SPACE.names.index("ceiling")]
    whole = [1.25, -2.5, 0.125, 10, 20, 30]
    expected = [whole] * 18 + ([] if row is None else [row]) + [whole] * 20
    np.testing.assert_array_equal(ceiling, np.array(expected, np.float32))


def test_many_spoilt_lines_are_counted(write_room):
    scan = s3dis.read_room(write_room({"wall_1.txt": b"\n".join([LINE, b"1 2"] * 9)}))
    assert len(scan.xyz) == 9 and "lines 2, 4, 6 and 6 more" in scan.notes[0]


def test_stray_files_are_not_read(write_room):
    files = {".DS_Store": b"\0\1", "Icon\r": b"", "wall_1.txt~": LINE, "._wall_1.txt": b"x", "wall_1.txt": points(4)}
    scan = s3dis.read_room(write_room(files))
    assert len(scan.xyz) == 4 and scan.notes == ()
    copy = "wall_1 (1).txt"  # as of wall_3 in Area_5/office_36
    scan = s3dis.read_room(write_room({**files, "readme.txt": b"hello", copy: points(4)}, "Area_1/office_1"))
    told, also_told = sorted(scan.notes)
    assert len(scan.xyz) == 4 and "readme.txt: is no <class>_<k>.txt" in told and copy in also_told


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wall_1.txt": b""}, r"wall_1.txt: is empty; unpack it again"),
        ({"wall_1.txt": b" \n" * 9}, r"wall_1.txt: is empty"),
        ({"wall_1.txt": LINE + b"\n\n \nnan 1 2 3 4 5\n"}, r"wall_1.txt: line 4, 'nan 1 2 3 4 5', has NaN"),
        (
            {"wall_1.txt": b"1 2 3\n\n" + LINE + b"\n1 2 Infinity 3 4 5\n"},
            r"wall_1.txt: line 4, .* has NaN or infinite",
        ),
        ({"wall_1.txt": b"\x89PNG\r\n\x1a\n"}, r"wall_1.txt: has no line of six numbers"),
        ({"wall_1.txt": b"1 2 3\n" * 5}, r"wall_1.txt: has no line of six numbers"),
        ({"floor_1.txt": LINE, "wall_1.txt": LINE + b"\n1 2 3 10 20 256\n"}, r"wall_1.txt: line 2, .* a colour"),
        ({"wall_1.txt": b"1 2 3 0.5 0 0\n"}, r"wall_1.txt: line 1, '1 2 3 0.5 0 0', has a colour"),
        ({"wall_1.txt": b"1 2 3 0 -1 0\n"}, r"wall_1.txt: line 1, .* a colour"),
        ({"wall_1.txt": b"1 2 3 0 0 0\n2000 2 3 0 0 0\n"}, r"spans 2e\+03 m"),
        ({"pillar_1.txt": LINE}, r"pillar_1.txt: 'pillar' is no class of S3DIS"),
        ({"wall_1.txt": LINE, "fire_hose_1.txt": LINE}, r"'fire_hose' is no class of S3DIS"),
        ({".DS_Store": b""}, r"Annotations: holds no <class>_<k>.txt"),
    ],
)
def test_what_cannot_be_read_is_an_error(write_room, files, message):
    with pytest.raises(ScanError, match=message):
        s3dis.read_room(write_room(files))


def test_a_room_without_annotations_is_an_error(tmp_path):
    (tmp_path / "Area_1/office_1").mkdir(parents=True)
    with pytest.raises(ScanError, match=r"Annotations: no such folder"):
        s3dis.read_room(tmp_path / "Area_1/office_1")
    (tmp_path / "Area_1/office_1/Annotations/wall_1.txt").mkdir(parents=True)
    with pytest.raises(ScanError, match=r"wall_1.txt: cannot be read"):
        s3dis.read_room(tmp_path / "Area_1/office_1")


def test_rooms_are_named_by_the_folders_as_they_are_given(write_room, tmp_path):
    write_room({"wall_1.txt": points(3)})
    (tmp_path / "Area_5/.git").mkdir()
    (tmp_path / "Area_5/Area_5_alignmentAngle.txt").write_text("hallway_6 90")
    (tmp_path / "notes").mkdir()
    (tmp_path / "Area_2").symlink_to(tmp_path / "Area_5")
    rooms = s3dis.find_rooms(tmp_path)
    assert list(rooms) == ["Area_2_hallway_6", "Area_5_hallway_6"]
    assert [s3dis.read_room(folder).name for folder in rooms.values()] == list(rooms)


def test_folders_without_rooms_or_with_names_that_are_no_scenes(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        s3dis.find_rooms(tmp_path / "nothing")
    (tmp_path / "Area_1/office_1").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no rooms"):
        s3dis.find_rooms(tmp_path / "Area_1")
    (tmp_path / "Area_1/office_1 (1)").mkdir()
    with pytest.raises(ValueError, match=r"Area_1/office_1 \(1\): .* cannot be the name of a scene"):
        s3dis.find_rooms(tmp_path)
