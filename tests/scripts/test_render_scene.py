import numpy as np
import pytest
from matplotlib.image import imread
from plyfile import PlyData, PlyElement

from data.coloured_ply import write_coloured
from data.rooms.meshes import box_mesh
from scripts import render_scene

RED, GREY = (200, 20, 20), (120, 120, 120)


@pytest.fixture
def room():
    """A room of 4 m x 3 m x 2 m seen from inside, grey, and a red block on its floor."""
    rng = np.random.default_rng(0)
    shell = box_mesh(np.array([4.0, 3.0, 2.0]), np.full(3, 0.1), rng, inside_out=True)
    block = box_mesh(np.array([0.8, 0.8, 0.6]), np.full(3, 0.1), rng)
    xyz = np.concatenate((shell.xyz, block.xyz + [1.6, 1.1, 0])).astype(np.float32)
    faces = np.concatenate((shell.faces, block.faces + len(shell.xyz)))
    colour = np.repeat(np.array([GREY, RED], np.uint8), [len(shell.xyz), len(block.xyz)], axis=0)
    return xyz, colour, faces


def reddish(image):
    pixels = image.astype(int)
    return pixels[..., 0] > 2 * pixels[..., 1]


@pytest.mark.parametrize("with_faces", [True, False])
def test_what_is_in_the_room_is_seen_through_ceiling_and_near_walls(room, with_faces):
    xyz, colour, faces = room
    image = render_scene.render(xyz, colour, faces if with_faces else None, width=300)
    assert image.shape[1:] == (300, 3) and image.dtype == np.uint8
    assert 0.01 < reddish(image).mean() < 0.2
    assert (image == 255).all(-1).mean() > 0.1  # white around the room


def test_the_near_hides_the_far(room):
    xyz, colour, faces = room
    block = (colour == RED).all(1)
    below = xyz.copy()
    below[block, 2] -= 0.7  # now the floor covers it
    assert (
        reddish(render_scene.render(below, colour, faces, width=300)).mean()
        < 0.2 * reddish(render_scene.render(xyz, colour, faces, width=300)).mean()
    )


def test_the_long_side_of_a_turned_room():
    rng = np.random.default_rng(0)
    xy = rng.uniform(-1, 1, (4000, 2)) * (3, 1)
    angle = np.deg2rad(35)
    turned = xy @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert np.rad2deg(render_scene.long_side(turned)) % 180 == pytest.approx(35, abs=1.5)


def test_the_script_draws_a_panel_for_each_file(room, tmp_path):
    xyz, colour, faces = room
    label = np.where((colour == RED).all(1), 7, 1)
    write_coloured(tmp_path / "scan.ply", xyz, colour, faces)
    write_coloured(tmp_path / "labels.ply", xyz, colour, faces, label)
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert render_scene.main(["--input", str(tmp_path / "scan.ply"), "--out", str(one)]) == 0
    np.savetxt(tmp_path / "labels.txt", label, fmt="%d")
    for labels in ("labels.ply", "labels.txt"):
        flags = ["--labels", str(tmp_path / labels), "--titles", "colours", "truth"]
        assert render_scene.main(["--input", str(tmp_path / "scan.ply"), "--out", str(two), *flags]) == 0
        assert imread(two).shape[1] == 2 * imread(one).shape[1]


def test_an_ascii_mesh_without_colours(room, tmp_path):
    xyz, _, faces = room
    vertex = PlyElement.describe(np.rec.fromarrays(xyz.T, names="x,y,z"), "vertex")
    face = np.rec.fromarrays([faces], dtype=[("vertex_indices", "i4", (3,))])
    PlyData([vertex, PlyElement.describe(face, "face")], text=True).write(tmp_path / "plain.ply")
    assert render_scene.main(["--input", str(tmp_path / "plain.ply"), "--out", str(tmp_path / "one.png")]) == 0
    picture = imread(tmp_path / "one.png")[100:-100, 100:-100, :3]
    assert picture.std(axis=2).max() < 0.01 and picture.std() > 0.1  # grey, and something is there


def test_unusable_files_are_named(room, tmp_path, capsys):
    def error(*arguments):
        assert render_scene.main(["--out", str(tmp_path / "x.png"), *map(str, arguments)]) == 1
        return capsys.readouterr().err

    xyz, colour, faces = room
    scan = tmp_path / "scan.ply"
    write_coloured(scan, xyz, colour, faces)
    (tmp_path / "no.ply").write_bytes(b"no mesh")
    assert "no.ply: truncated, or not a PLY file" in error("--input", tmp_path / "no.ply")
    write_coloured(tmp_path / "nan.ply", np.where(xyz == xyz.max(), np.nan, xyz), colour, faces)
    assert "nan.ply: vertices have NaN" in error("--input", tmp_path / "nan.ply")
    for name, content, message in (
        ("short.txt", "1\n2\n", "2 labels for"),
        ("words.txt", "wall\n", "has no labels"),
        ("scan.ply", None, "no vertex property 'label'"),
        ("none.txt", None, "has no labels"),
    ):
        if content:
            (tmp_path / name).write_text(content)
        assert f"{name}: " in (line := error("--input", scan, "--labels", tmp_path / name)) and message in line
    assert not (tmp_path / "x.png").exists()


def test_a_page_without_labels_and_panels_of_one_name(room, tmp_path, capsys):
    pytest.importorskip("plotly")
    xyz, colour, faces = room
    write_coloured(tmp_path / "room.ply", xyz, colour, faces)
    flags = ["--input", str(tmp_path / "room.ply"), "--out", str(tmp_path / "room.HTML")]
    assert render_scene.main(flags) == 0 and "colours" in (tmp_path / "room.HTML").read_text()
    np.savetxt(tmp_path / "said.txt", np.ones(len(xyz)), fmt="%d")
    assert render_scene.main([*flags, "--labels", *[str(tmp_path / "said.txt")] * 2]) == 1
    assert "--titles" in capsys.readouterr().err
    assert render_scene.main([*flags[:2], "--out", flags[1]]) == 1 and "also read" in capsys.readouterr().err


def test_an_html_file_is_a_page_with_the_labels(room, tmp_path):
    pytest.importorskip("plotly")
    xyz, colour, faces = room
    write_coloured(tmp_path / "room.ply", xyz, colour, faces)
    label = np.where(xyz[:, 2] < 0.1, 2, 1)
    np.savetxt(tmp_path / "said.txt", label, fmt="%d")
    flags = ["--input", str(tmp_path / "room.ply"), "--labels", str(tmp_path / "said.txt")]
    assert render_scene.main([*flags, "--out", str(tmp_path / "room.html")]) == 0
    text = (tmp_path / "room.html").read_text()
    assert f"floor {100 * (label == 2).mean():.1f} %" in text and "said" in text
