"""A camera's scan of a room whose surfaces are known."""

import numpy as np
import pytest

from data.rooms import scanner
from data.rooms.surfaces import Thing, box, rectangle

SIZE = np.array([3.0, 4.0, 2.5])
SETTINGS = scanner.Sensor(voxel=0.035, furthest=4.0, noise=1.0, drift=0.003, kept=0.6)
TABLE = 3  # index of a thing


@pytest.fixture(scope="module")
def things():
    x, y, z = SIZE
    walls = [
        rectangle(corner, along, (0, 0, z))
        for corner, along in (
            ((0, 0, 0), (x, 0, 0)),
            ((x, 0, 0), (0, y, 0)),
            ((0, y, 0), (x, 0, 0)),
            ((0, 0, 0), (0, y, 0)),
        )
    ]
    legs = [box(a, a + 0.03, b, b + 0.03, 0, 0.7) for a in (0.9, 1.67) for b in (0.9, 1.47)]
    return [
        Thing("floor", [rectangle((0, 0, 0), (x, 0, 0), (0, y, 0))]),
        Thing("ceiling", [rectangle((0, 0, z), (x, 0, 0), (0, y, 0))]),
        Thing("wall", walls),
        Thing("table", [box(0.9, 1.7, 0.9, 1.5, 0.7, 0.71), *legs]),
        Thing("cabinet", [box(2.4, 3, 2.5, 3.5, 0, 1.2)]),
    ]


def scan_of(things, settings=SETTINGS, seed=0):
    rng = np.random.default_rng(seed)
    rays = scanner.Rays(things)
    return scanner.scan(rays, scanner.walk(rays, rng), settings, rng)


@pytest.fixture(scope="module")
def scan(things):
    return scan_of(things)


def test_rays_hit_the_nearest_thing(things):
    rays = scanner.Rays(things)
    origin = np.array([(1.3, 1.2, 2.0), (1.3, 1.2, 0.5), (0.5, 0.5, 1.0)])
    direction = np.array([(0, 0, -1.0), (0, 0, -1.0), (0, -1.0, 0)])
    distance, triangle = rays.cast(origin, direction)
    assert np.allclose(distance, [2.0 - 0.71, 0.5, 0.5], atol=1e-5)
    assert [things[rays.thing[t]].name for t in triangle] == ["table", "floor", "wall"]
    distance, triangle = rays.cast(np.array([(9.0, 9, 1)]), np.array([(0, 1.0, 0)]))
    assert np.isinf(distance[0]) and triangle[0] == -1


def test_surfaces_are_where_they_are(things, scan):
    floor = scan.xyz[scan.thing == 0]
    assert np.abs(np.median(floor[:, 2])) < 0.02 and np.percentile(np.abs(floor[:, 2]), 90) < 0.05
    wall = scan.xyz[(scan.thing == 2) & (scan.xyz[:, 2] > 0.3)]
    from_wall = np.minimum(wall[:, :2], SIZE[:2] - wall[:, :2]).min(1)
    assert np.percentile(np.abs(from_wall), 90) < 0.05


def test_labels_are_those_of_the_nearest_surface(scan):
    top = (np.abs(scan.xyz - [1.3, 1.2, 0.71]) < [0.3, 0.2, 0.05]).all(1)
    assert top.sum() > 50, "a top of 1 cm is there"
    assert (scan.thing[top] == TABLE).mean() > 0.95
    assert (scan.thing[(np.abs(scan.xyz - [1.3, 1.2, 0]) < [0.2, 0.2, 0.1]).all(1)] == 0).mean() > 0.95


def test_the_fillet_at_its_foot_is_annotated_as_what_stands_there():
    along = np.arange(0, 1, 0.005)
    floor, side = np.zeros((200, 3)), np.zeros((200, 3))
    floor[:, 0], side[:, 2] = along, along
    seen_at, seen_thing = np.concatenate((floor, side)), np.repeat([0, 1], 200)
    beside, away = [0.012, 0, 0.004], [0.3, 0, 0.004]
    for name, found in (("cabinet", [1, 0]), ("wall", [0, 0])):
        assert scanner._labels(np.array([beside, away]), seen_at, seen_thing, ["floor", name]).tolist() == found


def test_what_no_camera_sees_is_missing(scan):
    behind = (scan.xyz[:, 0] > 2.85) & (np.abs(scan.xyz[:, 1] - 3.0) < 0.4) & (scan.xyz[:, 2] < 1.0)
    assert not behind.any(), "the wall behind the cabinet"
    beside = (scan.xyz[:, 0] > 2.85) & (np.abs(scan.xyz[:, 1] - 1.5) < 0.4) & (scan.xyz[:, 2] < 1.0)
    assert beside.sum() > 50


def test_cameras_stand_in_free_space(things):
    rays = scanner.Rays(things)
    for seed in range(5):
        camera = scanner.walk(rays, np.random.default_rng(seed))
        assert ((camera.position > 0) & (camera.position < SIZE)).all()
        assert np.allclose(camera.axes @ np.swapaxes(camera.axes, 1, 2), np.eye(3), atol=1e-9)
        assert (camera.axes[:, 1, 2] < 0).all(), "down is down"


def test_no_camera_is_in_a_column_or_behind_a_wall(things):
    """A room in an L with a column; its floor goes on behind the wall, where there is no ceiling."""
    built = [
        Thing("floor", [rectangle((0, 0, 0), (4, 0, 0), (0, 4, 0))]),
        Thing("ceiling", [rectangle((0, 0, 2.5), (4, 0, 0), (0, 2, 0)), rectangle((0, 2, 2.5), (2, 0, 0), (0, 2, 0))]),
        Thing("wall", [rectangle((2, 2, 0), (2, 0, 0), (0, 0, 2.5)), rectangle((2, 2, 0), (0, 2, 0), (0, 0, 2.5))]),
        Thing("wall", [box(0.8, 1.6, 0.8, 1.6, 0, 2.49)]),
    ]
    rays = scanner.Rays(built)
    for seed in range(10):
        x, y, _ = scanner.walk(rays, np.random.default_rng(seed)).position.T
        assert not ((x > 0.8) & (x < 1.6) & (y > 0.8) & (y < 1.6)).any(), "in the column"
        assert not ((x > 2.1) & (y > 2.1)).any(), "in the next room"


def test_where_nobody_can_stand_there_is_no_walk():
    with pytest.raises(scanner.NothingSeen):
        scanner.walk(scanner.Rays([Thing("cabinet", [box(0, 2, 0, 2, 0, 2)])]), np.random.default_rng(0))


def test_the_same_seed_gives_the_same_scan(things, scan):
    again, other = scan_of(things), scan_of(things, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(again, scan, strict=True))
    assert not np.array_equal(other.xyz[:10], scan.xyz[:10])


def test_settings_are_what_they_say(things, scan):
    def roughness(found):
        floor = found.xyz[(found.thing == 0) & (np.abs(found.xyz[:, 2]) < 0.1)]
        return floor[:, 2].std()

    still = scan_of(things, SETTINGS._replace(noise=0.1, drift=0.0))
    assert roughness(still) < 0.7 * roughness(scan_of(things, SETTINGS._replace(noise=2.0, drift=0.01)))
    assert len(scan_of(things, SETTINGS._replace(kept=0.3)).faces) < 0.6 * len(scan.faces)


def test_nothing_to_see_is_an_error():
    far = [Thing("floor", [rectangle((0, 0, 0), (0.2, 0, 0), (0, 0.2, 0))])]
    rays = scanner.Rays(far)
    camera = scanner.Camera(np.array([(0.1, 0.1, 30.0)]), np.eye(3)[None])
    with pytest.raises(scanner.NothingSeen, match="next to nothing"):
        scanner.scan(rays, camera, SETTINGS, np.random.default_rng(0))
