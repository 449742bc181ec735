"""Generated rooms, turned, scaled and with strays: found, or left as they are; never turned wrongly."""

import numpy as np
import pytest

from data import standing as decided
from data.rooms import rooms
from data.rooms.meshes import box_mesh
from data.standing import UPS, Standing, find_standing, placed_upright, rotation_of, rotation_to

Z_UP = np.array([0.0, 0, 1])


@pytest.fixture(scope="module")
def room():
    """(V, 3) float64 vertices and (F, 3) triangles of a furnished room."""
    plan = rooms.plan_room(3, "train", 2)
    xyz, faces, *_ = rooms.mesh_room(plan, np.random.default_rng(0))
    return xyz.astype(np.float64), faces


def box(size, spacing=0.1):
    shell = box_mesh(np.array(size), np.full(3, spacing), np.random.default_rng(0), inside_out=True)
    return shell.xyz.astype(np.float64), shell.faces


def about(axis, degrees):
    """(3, 3) that turns about a unit vector (3,)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def off(standing, up):
    """Degrees between what is up, and what is taken for it."""
    found = Z_UP if standing.rotation is None else standing.rotation[2]
    return np.rad2deg(np.arccos(np.clip(found @ up, -1, 1)))


def is_as_it_is(standing):
    return standing.rotation is None and standing.scale == 1 and standing.stray is None and not standing.found


@pytest.mark.parametrize("with_triangles", [True, False])
def test_a_room_stays_as_it_is(room, with_triangles):
    standing = find_standing(room[0], room[1] if with_triangles else None)
    assert standing == Standing()
    assert placed_upright(room[0], standing) is room[0]


@pytest.mark.parametrize("size", [(1.5, 12, 2.5), (12, 1.2, 3.0), (1.6, 2.0, 2.6), (4, 3, 2.2), (15, 11, 3.4)])
def test_corridors_closets_and_halls_stay_as_they_are(size):
    assert find_standing(*box(size)) == find_standing(box(size)[0]) == Standing()


def test_an_l_shaped_office_stays_as_it_is():
    one, other = box((9, 2.2, 2.7))[0], box((2.2, 8, 2.7))[0]
    inside = (other[:, 1] < 2.2) & (other[:, 0] > 0.05) & (other[:, 0] < 2.15) & (other[:, 2] > 0.05)
    assert find_standing(np.concatenate([one, other[~inside]])) == Standing()


@pytest.mark.parametrize("up", ["x", "y", "-x", "-y"])
def test_an_axis_of_the_file_is_taken_as_it_stands(room, up):
    back = rotation_of(up)
    standing = find_standing(room[0] @ back, room[1])
    assert off(standing, back[2]) < 0.01 and standing.scale == 1
    assert f"{up} is up, not z" in standing.found[0]
    np.testing.assert_array_equal(placed_upright(room[0] @ back, standing), room[0])


@pytest.mark.parametrize("degrees", [8, 25, 55])
def test_a_tilted_sensor(room, degrees):
    turn = about([0.6, 0.8, 0.0], degrees)
    assert off(find_standing(room[0] @ turn.T, room[1]), turn @ Z_UP) < 1.5


def test_a_small_angle_is_left_where_only_one_side_is_seen():
    """A floor and two walls, as in a depth image: what slants there may be furniture."""
    corner = box((5, 4, 2.5), 0.05)[0]
    corner = corner[(corner < [4.9, 3.9, 2.4]).all(axis=1)] @ about([0.6, 0.8, 0.0], 6).T
    assert find_standing(corner).rotation is None


@pytest.mark.parametrize(
    ("of_z", "of_y", "doubt"),
    [
        (0.3, 0.7, None),
        (0.01, 0.5, None),
        (0.01, 0.8, "perhaps z is not up"),
        (0.01, 0.95, "perhaps y is up, not z"),
    ],
)
def test_a_doubt_names_an_axis_only_if_that_is_likely(monkeypatch, of_z, of_y, doubt):
    """By the chances of +z and of y; no chance is sure enough to turn the scan."""

    def chances(choice, ups, camera):
        chance = np.zeros(len(ups))
        chance[[ups[:, 2].argmax(), ups[:, 1].argmax(), ups[:, 1].argmin()]] = of_z, of_y, 1 - of_z - of_y
        return chance, True

    monkeypatch.setattr(decided, "_chances", chances)
    standing = find_standing(box((4, 3, 2.6))[0])
    assert standing.rotation is None and len(standing.doubts) == (doubt is not None)
    if doubt:
        ((what, advice),) = standing.doubts
        assert what.startswith(doubt) and ("--up=y" in advice) == ("y is up" in doubt)


@pytest.mark.parametrize(("unit", "metres"), [("millimetre", 0.001), ("centimetre", 0.01)])
def test_units(room, unit, metres):
    back = rotation_of("y")
    standing = find_standing(room[0] / metres @ back, room[1])
    assert standing.scale == metres and off(standing, back[2]) < 0.01
    assert f"its unit is the {unit}" in standing.found[1]


def test_feet_are_found_by_the_furniture_and_doubted_without():
    bare, table = box((6, 5, 2.6), 0.05)[0], box((2.5, 2, 0.7), 0.05)[0] + [2, 2, 0]
    found, doubted = find_standing(np.concatenate([bare, table]) / 0.3048), find_standing(bare / 0.3048)
    assert found.scale == 0.3048 and "its unit is the foot" in found.found[0]
    assert doubted.scale == 1 and "foot" in doubted.doubts[0][0] and "--scale 0.3048" in doubted.doubts[0][1]


@pytest.mark.parametrize("metres", [1.0, 0.001])
def test_strays_are_left_out(room, metres):
    far = np.array([[900.0, 3, 1], [2, -14, 1], [1, 1, 250]])
    standing = find_standing(np.concatenate([room[0], far]) / metres, room[1])
    assert np.flatnonzero(standing.stray).tolist() == [len(room[0]), len(room[0]) + 1, len(room[0]) + 2]
    assert "3 vertices lie metres from all others" in standing.found[-1] and standing.scale == metres
    assert standing.rotation is None


def test_a_second_room_is_no_stray(room):
    beside = room[0][: len(room[0]) // 50] + [40, 0, 0]
    assert find_standing(np.concatenate([room[0], beside])).stray is None


def test_what_is_given_is_not_decided(room):
    turned = room[0] @ rotation_of("y")
    standing = find_standing(turned, room[1], up="z", scale=1.0)
    assert standing == Standing()
    given = find_standing(turned * 1000, room[1], up="y")
    assert given.scale == 0.001 and np.array_equal(given.rotation, rotation_of("y"))
    assert find_standing(turned, room[1], scale=0.5).scale == 0.5


def depth_image(xyz, faces, pitch):
    """What a camera 1.5 m high in a room's corner sees: one point (n, 3) a ray, z ahead and y down; and what is up."""
    rng = np.random.default_rng(0)
    corners = xyz[faces[rng.integers(len(faces), size=400_000)]]
    weights = rng.dirichlet([1, 1, 1], len(corners))
    points = (corners * weights[:, :, None]).sum(axis=1) - [0.6, 0.6, 1.5]
    right, ahead = np.array([1, -1, 0]) / 2**0.5, np.array([1, 1, 0]) / 2**0.5
    ahead = np.cos(pitch) * ahead - np.sin(pitch) * Z_UP
    seen = points @ np.stack([right, np.cross(ahead, right), ahead]).T
    ratio = seen[:, :2] / np.maximum(seen[:, 2:], 1e-9)
    seen = seen[(seen[:, 2] > 0.4) & (np.abs(ratio[:, 0]) < 0.55) & (np.abs(ratio[:, 1]) < 0.41)]
    pixel = np.floor(seen[:, :2] / seen[:, 2:] * 140).astype(int)
    order = np.lexsort((seen[:, 2], pixel[:, 0], pixel[:, 1]))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(pixel[order], axis=0) != 0).any(axis=1)
    return seen[order][first], np.array([0.0, -np.cos(pitch), -np.sin(pitch)])


@pytest.mark.parametrize("unit", [1.0, 0.001])
def test_one_image_of_a_camera_that_looks_down(unit):
    seen, up = depth_image(*box((4.5, 4.2, 2.6), 0.3), np.deg2rad(25))
    standing = find_standing(seen / unit)
    assert standing.rotation is not None and off(standing, up) < 3 and standing.scale == unit


@pytest.mark.parametrize(
    "xyz",
    [
        np.zeros((1, 3)),
        np.random.default_rng(0).random((3, 3)),
        np.full((5000, 3), 7.0),
        np.random.default_rng(0).random((5000, 3)) * [4, 3, 0],
        np.random.default_rng(0).random((5000, 3)) * [4, 0, 0],
        np.random.default_rng(0).random((20000, 3)) * [4, 3, 0] @ about([0.6, 0.8, 0.0], 35).T,
        np.random.default_rng(0).normal(size=(20000, 3)),
        np.random.default_rng(0).random((20000, 3)) * 1e30,
    ],
    ids=["one point", "three", "equal", "a floor", "a line", "a slanting plane", "a cloud of noise", "huge"],
)
def test_what_shows_nothing_stays_as_it_is(xyz):
    assert is_as_it_is(find_standing(xyz))
    assert is_as_it_is(find_standing(xyz, np.zeros((4, 3), int)))


def test_the_same_points_give_the_same_answer(room):
    turned = room[0] @ about([0.0, 1, 0], 40).T
    one, other = find_standing(turned, room[1]), find_standing(turned, room[1])
    assert np.array_equal(one.rotation, other.rotation) and one.found == other.found


@pytest.mark.parametrize("up", UPS)
def test_turning_is_no_mirror(up):
    rotation = np.eye(3) if rotation_of(up) is None else rotation_of(up)
    upward = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
    assert np.linalg.det(rotation) == pytest.approx(1) and np.array_equal(rotation @ upward, Z_UP)
    assert np.allclose(rotation_to(upward) @ upward, Z_UP) and np.linalg.det(rotation_to(upward)) == pytest.approx(1)
