"""Rooms as they are built, before a camera sees them."""

import numpy as np
import pytest

from data.rooms.homes import HOMES, Room, _meet, make_room
from data.rooms.scanned import ID_OF
from data.rooms.shapes import openings

SEEDS = range(30)


@pytest.fixture(scope="module")
def made():
    return [make_room(np.random.default_rng(seed)) for seed in SEEDS]


def test_every_thing_has_a_class_and_a_surface(made):
    for type_, things in made:
        assert type_ in HOMES and things[0].name == "floor"
        assert {thing.name for thing in things} <= set(ID_OF)
        for thing in things:
            xyz = np.concatenate([surface.xyz for surface in thing.surfaces])
            assert np.isfinite(xyz).all() and len(xyz) >= 4
            assert all(surface.faces.max() < len(surface.xyz) for surface in thing.surfaces)
    assert len({type_ for type_, _ in made}) > 5


def test_the_same_seed_gives_the_same_room(made):
    _, again = make_room(np.random.default_rng(3))
    assert [t.name for t in again] == [t.name for t in made[3][1]]
    assert all(
        np.array_equal(a.xyz, b.xyz)
        for one, other in zip(again, made[3][1], strict=True)
        for a, b in zip(one.surfaces, other.surfaces, strict=True)
    )


def test_the_walls_go_around_the_union_of_the_spaces():
    room = Room("living room", np.random.default_rng(0))
    room.spaces = [np.array([0, 0, 4, 3]), np.array([4, 1, 6, 2])]  # an alcove
    walls = room._outline()
    assert sum(wall.length for wall in walls) == pytest.approx(2 * (6 + 3))
    for wall in walls:
        middle = wall.length / 2
        assert room.inside(wall.at(middle, 0.05)) and not room.inside(wall.at(middle, -0.05)), "y looks inward"
        assert room.inside(wall.at(0.05, 0.05)) and room.inside(wall.at(wall.length - 0.05, 0.05))


def points_in(corners, n):
    """(n * n, 2) of a parallelogram."""
    u, v = (w.reshape(-1, 1) for w in np.meshgrid(*[np.linspace(0, 1, n)] * 2))
    return corners[0] + u * (corners[1] - corners[0]) + v * (corners[3] - corners[0])


def inside_quadrangle(corners, points, margin):
    """Whether points are to the left of all sides (counter-clockwise), by a margin."""
    sides = np.roll(corners, -1, 0) - corners
    left = np.stack((-sides[:, 1], sides[:, 0]), 1) / np.linalg.norm(sides, axis=1, keepdims=True)
    return np.all([(points - c) @ n > margin for c, n in zip(corners, left, strict=True)], axis=0)


def turned_square(x, y, side, angle=0.0):
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * side / 2
    return corners @ np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))]) + (x, y)


@pytest.mark.parametrize(
    ("other", "meets"),
    [
        (turned_square(0.9, 0, 1), True),
        (turned_square(1.1, 0, 1), False),
        (turned_square(0.8, 0.8, 1, np.pi / 4), True),
        (turned_square(1.0, 1.0, 0.6, np.pi / 4), False),  # their bounds overlap
        (turned_square(0, 0, 0.2, 0.3), True),  # inside
    ],
)
def test_footprints_meet(other, meets):
    assert _meet(turned_square(0, 0, 1), other) == meets == _meet(other, turned_square(0, 0, 1))


def test_nothing_stands_in_anything_else():
    """Footprints apart, where heights meet; asked of points on a grid, not of what put them there."""
    for seed in SEEDS:
        room = Room(str(np.random.default_rng(seed).choice(list(HOMES))), np.random.default_rng(seed))
        for rule in room.home.rules:
            room.put(rule.make(room.rng), rule.place)
        assert room.taken
        for i, (a, bottom, top) in enumerate(room.taken):
            assert room.inside(a + (a.mean(0) - a) * 0.1).all()
            some = points_in(a, 25)
            for b, z, t in room.taken[:i]:
                if bottom < t and top > z:
                    assert not inside_quadrangle(b, some, margin=0.03).any()


def test_what_hangs_is_at_the_wall():
    for seed in range(10):
        room = Room("living room", np.random.default_rng(seed))
        assert room.put(openings.picture(room.rng), "wall")
        (footprint, bottom, _), (picture,) = room.taken[-1], room.things
        assert bottom > 0.3 and picture.name == "picture"
        normals = [np.array([-np.sin(wall.angle), np.cos(wall.angle)]) for wall in room.walls]
        gap = [np.abs((footprint[:2] - wall.start) @ n).max() for wall, n in zip(room.walls, normals, strict=True)]
        assert min(gap) < 0.011


def test_a_wall_is_open_where_a_door_is():
    room = Room("office", np.random.default_rng(0))
    door = openings.Opening(openings.door(room.rng, room.height).piece, (-0.4, 0.4, 0.0, 2.0))
    assert room.open_wall(door)
    k = next(k for k, holes in enumerate(room.holes) if holes)
    ((x0, x1, z0, z1),) = room.holes[k]
    assert (x1 - x0, z0, z1) == pytest.approx((0.8, 0.0, 2.0))
    room.build()
    walls = room.things[2 : 2 + len(room.walls)]
    area = sum(
        np.linalg.norm(np.cross(*(s.xyz[f[1:]] - s.xyz[f[0]]))) / 2 for t in walls for s in t.surfaces for f in s.faces
    )
    assert area == pytest.approx(sum(wall.length for wall in room.walls) * room.height - 0.8 * 2.0)
