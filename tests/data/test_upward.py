"""What speaks for a direction, on boxes with a table: each of the five numbers, heights, and slopes."""

import numpy as np
import pytest

from data.patches import patches
from data.rooms.meshes import box_mesh
from data.upward import FEWEST_PATCHES, axes, refined, slopes

UP = np.array([0.0, 0, 1])


def box(size, at=(0, 0, 0)):
    shell = box_mesh(np.array(size), np.full(3, 0.05), np.random.default_rng(0), inside_out=True)
    return shell.xyz.astype(np.float64) + at


def seen_in(*parts):
    return patches(np.concatenate(parts), None, np.random.default_rng(0))


def towards(found, up):
    return max(found, key=lambda axis: axis.up @ up)


@pytest.fixture(scope="module")
def room():
    """5 x 4 x 2.5 m with a table of 1.6 x 1.2 m, 0.7 m high, without floor beneath it."""
    walls = box((5.0, 4.0, 2.5))
    below = (walls[:, 2] < 0.01) & (np.abs(walls[:, :2] - 2) < 0.8).all(axis=1)
    return seen_in(walls[~below], box((1.6, 1.6, 0.7), (1.2, 1.2, 0.02)))


def test_a_room_has_three_axes_and_each_both_ways(room):
    found = axes(room, UP[None])
    assert len(found) == 6
    assert sorted(np.abs(axis.up).argmax() for axis in found) == [0, 0, 1, 1, 2, 2]
    assert all(np.abs(axis.up).max() > 0.999 for axis in found)
    assert max(axis.evidence["explained"] for axis in found) == 0


def test_up_is_told_from_down_and_from_a_walls_direction(room):
    found = axes(room, UP[None])
    best = max(found, key=lambda axis: axis.score)
    assert best.up @ UP > 0.999
    assert best.height == pytest.approx(2.5, rel=0.05) and best.width == pytest.approx(20**0.5, rel=0.1)
    assert best.furniture[0] > 0.05 and sum(best.furniture[1:]) < 0.01


def test_each_number_of_the_evidence_points_the_right_way(room):
    found = axes(room, UP[None])
    up, down, aside = (towards(found, np.array(way)) for way in ([0, 0, 1.0], [0, 0, -1.0], [1.0, 0, 0]))
    assert up.evidence["low"] > 0.05 > -0.05 > down.evidence["low"]
    assert up.evidence["hidden"] > 0.05 > -0.05 > down.evidence["hidden"]
    assert up.evidence["height"] < aside.evidence["height"]
    assert up.ceiling > up.floor and down.floor > down.ceiling
    assert up.furniture == pytest.approx(down.furniture[::-1], abs=0.03)


def test_a_floor_without_a_ceiling_is_one_plane():
    open_above = box((5.0, 4.0, 2.5))
    found = axes(seen_in(open_above[open_above[:, 2] < 2.4]), UP[None])
    assert towards(found, UP).evidence["one plane"] == 1 and towards(found, -UP).evidence["one plane"] == -1
    assert towards(found, UP).evidence["hidden"] == 0


def test_a_slanting_wall_explains_less():
    slant = np.random.default_rng(0).random((40_000, 3)) * [5, 0, 2.5]
    slant[:, 1] = 1 + 0.6 * slant[:, 2]
    found = axes(seen_in(box((5.0, 4.0, 2.5)), slant), UP[None])
    assert towards(found, np.array([0, 1.0, 0])).evidence["explained"] <= 0
    assert towards(found, np.array([1.0, 0, 0])).evidence["explained"] == pytest.approx(0, abs=0.02)


def test_an_axis_is_placed_to_a_tenth_of_a_degree(room):
    flat = room.normal.any(axis=1)
    start = np.array([0.0, np.sin(np.deg2rad(5)), np.cos(np.deg2rad(5))])
    placed = refined(start, room.normal[flat], room.area[flat])
    assert np.rad2deg(np.arccos(placed @ UP)) < 0.1


def test_slopes_of_floor_and_walls_are_told_apart():
    """Walls upright, floor and ceiling slanting by 4 degrees."""
    xyz = box((5.0, 4.0, 2.5))
    xyz[:, 2] += np.tan(np.deg2rad(4)) * xyz[:, 0]
    by_level, by_walls = slopes(seen_in(xyz), UP)
    assert np.rad2deg(np.arccos(by_level @ UP)) == pytest.approx(4, abs=0.3)
    assert np.rad2deg(np.arccos(by_walls @ UP)) < 0.3


def test_slopes_need_walls_of_two_directions():
    xyz = box((5.0, 4.0, 2.5))
    assert slopes(seen_in(xyz[(xyz[:, 0] > 0.01) & (xyz[:, 0] < 4.99)]), UP) is None


def test_few_patches_tell_nothing(room):
    few = room._replace(normal=np.where(np.arange(len(room.xyz))[:, None] < FEWEST_PATCHES - 1, room.normal, 0))
    assert axes(few, UP[None]) == [] and slopes(few, UP) is None
