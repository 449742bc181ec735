"""A depth camera that is carried through a room: rays, noise, fusion, mesh. What was not seen is missing.

As scans of rooms are made (BundleFusion, Dai et al. 2017): depth images are fused into a truncated signed distance
volume (Curless and Levoy 1996), whose zero is meshed by marching cubes and decimated. That rounds edges, closes gaps,
swells or loses what is thin, and leaves holes behind things.

K images, R rays, V vertices, F triangles; metres; z up.
"""

from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from fast_simplification import simplify
from scipy.ndimage import binary_dilation, distance_transform_edt, map_coordinates, minimum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from data.rooms.surfaces import Thing

VIEW = (58, 45)  # degrees, of the usual structured-light sensors
RANGE = (0.4, 4.5)  # m
# Nguyen, Izadi and Lovell 2012: axial noise of a Kinect in m at depth z, 0.0012 + 0.0019 (z - 0.4)^2
NOISE = (0.0012, 0.0019, 0.4)
DISPARITY_STEP = 1 / 8 / (580 * 0.075)  # 1/m: an eighth of a pixel, over focal length in pixels and baseline in m
DENSITY = (2.4, 18)  # vertices in a cube of 10 cm that a surface passes: of 23 real scans
VERTICES = 0.95  # that marching cubes makes of a surface as large as a voxel's side
EVEN = ("floor", "wall", "ceiling", "door", "picture", "whiteboard", "paper")  # large and dull, or flat
EVEN_BULGE = 0.003  # m, at most
UNEVEN = (1.3, 6.5)  # times the noise on other things, whose cloth, gloss and edges a sensor does not match as well
LOST = (0.25, 4)  # of a beta distribution
BULGE, BULGE_WAVE = (0.006, 0.05), (0.15, 0.9)  # m; by cloth, gloss, and light that comes by way of other things
GLOSSY, GLOSSY_WAVE, GLOSSY_BULGE = ("cabinet", "refrigerator"), 1.6, 2  # times the others: wide fronts err more
PIXEL_AT = 3.2  # m, where a pixel is as large as a voxel
GRAZING = 0.17  # cosine at which half of the pixels are lost
EDGE = 0.04  # jump of depth, as a share of it, at which a pixel is lost
STOPS = (4, 11)  # places from which a person looks around
TURN, PITCH, SWING = (16, 26), (-30, -14), 16  # degrees: between images, of a camera held in the hand, up and down
STRIDE, SHAKE = 0.35, 0.055  # m, between images on the way, and of the hand
HEIGHTS = (1.2, 1.75)  # m, of the camera
GRID = 0.1  # m, of places looked at
BORDER = 0.3  # m that a camera keeps from high things, where it can
REACH = 0.8  # m; over what is lower, a camera is held out
TRUNCATION = 3  # voxels
FEWEST_SEEN = 0.45  # summed weight of a voxel
FEWEST_VOXELS = 5000
SMALLEST_PART = 150  # vertices; smaller islands are cleaned away
FILLET = 0.02  # m: fusion rounds the corner of a floor and what stands on it; annotators give it to the latter
STRAY, STRAY_WAVE = 0.015, (0.15, 0.6)  # m by which borders between labels stray, and over which


class NothingSeen(Exception):
    """The camera saw next to nothing of a room."""


class Camera(NamedTuple):
    position: np.ndarray  # (K, 3)
    axes: np.ndarray  # (K, 3, 3): rows are right, down, forward


class Scan(NamedTuple):
    xyz: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) int64
    thing: np.ndarray  # (V,) int64: index of the nearest of the things


class Sensor(NamedTuple):
    """What differs from scan to scan."""

    voxel: float  # m, of the volume
    furthest: float  # m
    noise: float  # 1: as measured
    drift: float  # m, of the camera's place; its direction errs by as much at a metre and a half
    kept: float  # share of the triangles after decimation


def sensor(rng: np.random.Generator) -> Sensor:
    voxel, density = rng.uniform(0.018, 0.036), np.exp(rng.uniform(*np.log(DENSITY)))
    kept = min(1.0, density * (voxel / 0.1) ** 2 / VERTICES)
    return Sensor(voxel, rng.uniform(3.2, RANGE[1]), rng.uniform(0.2, 0.7), rng.uniform(0.001, 0.01), kept)


class Rays:
    """The things of a room, to be looked at."""

    def __init__(self, things: list[Thing]):
        surfaces = [surface for thing in things for surface in thing.surfaces]
        starts = np.cumsum([0, *(len(surface.xyz) for surface in surfaces)])
        self.xyz = np.concatenate([surface.xyz for surface in surfaces]).astype(np.float32)
        self.faces = np.concatenate([s.faces + start for s, start in zip(surfaces, starts[:-1], strict=True)])
        faces_of = [sum(len(surface.faces) for surface in thing.surfaces) for thing in things]
        self.names = [thing.name for thing in things]
        self.thing = np.repeat(np.arange(len(things)), faces_of)  # (F,)
        self.scene, self.without_ceiling = EmbreeScene(), EmbreeScene()
        TriangleMesh(self.scene, self.xyz[self.faces])
        below = np.array([name != "ceiling" for name in self.names])[self.thing]
        TriangleMesh(self.without_ceiling, self.xyz[self.faces[below]])
        a, b, c = (self.xyz[self.faces[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        self.normal = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12)

    def cast(self, origin: np.ndarray, direction: np.ndarray, scene=None) -> tuple[np.ndarray, np.ndarray]:
        """Of rays from (R, 3) along unit vectors (R, 3): distance (R,), inf for nothing; triangle (R,), or -1."""
        origin = np.broadcast_to(origin, direction.shape)
        hit = (scene or self.scene).run(origin.astype(np.float32), direction.astype(np.float32), output=1)
        return np.where(hit["primID"] < 0, np.inf, hit["tfar"].astype(np.float64)), hit["primID"]


def walk(rays: Rays, rng: np.random.Generator) -> Camera:
    """A person's path through the free space: from place to place, looking around at each and along the way.

    Raises NothingSeen where nobody can stand.
    """
    places = _free_places(rays, rng)
    stops, number = [places[rng.integers(len(places))]], min(len(places), int(rng.integers(*STOPS)))
    while len(stops) < number:
        some = places[rng.integers(len(places), size=12)]  # the furthest of some, so that the walk covers the room
        far = np.min([np.linalg.norm(some - stop, axis=1) for stop in stops], axis=0)
        stops.append(some[np.argmax(far)])
    around, looks = np.deg2rad(rng.uniform(*TURN)), []  # x, y, z, yaw, and pitch in degrees
    base = rng.uniform(*PITCH)
    for here, there in zip(stops, [*stops[1:], stops[-1]], strict=True):
        start, swing = rng.uniform(0, 2 * np.pi, 2)
        for i in range(int(rng.uniform(0.5, 1.15) * 2 * np.pi / around)):
            pitch = base + SWING * np.sin(0.9 * i + swing)
            looks.append((*(here + rng.normal(0, SHAKE, 3)), start + i * around, pitch))
        ahead = np.arctan2(*(there - here)[[1, 0]])
        strides = int(np.linalg.norm(there - here) / STRIDE)
        for i in range(strides):
            at = here + (there - here) * (i + 1) / (strides + 1)
            if np.linalg.norm(places[:, :2] - at[:2], axis=1).min() < GRID:  # else there is a wall, or a cupboard
                at = at + rng.normal(0, SHAKE, 3)
                looks.append((*at, ahead + 0.9 * np.sin(0.8 * i), base + rng.normal(0, SWING / 2)))
    x, y, z, yaw, pitch = np.array(looks).T
    return _cameras(np.stack((x, y, z), 1), yaw, np.deg2rad(np.clip(pitch, -60, 20)))


def scan(rays: Rays, camera: Camera, settings: Sensor, rng: np.random.Generator) -> Scan:
    """What the camera leaves of a room. Raises NothingSeen if that is next to nothing."""
    errors = _Errors(rays.names, settings, rng)
    believed = _drifted(camera, settings.drift, rng)
    fused, seen_at, seen_thing = _Volume(rays, settings.voxel), [], []
    pixels = _pixels(settings)
    for k in range(len(camera.position)):
        direction, depth, thing = _depth_image(rays, camera.position[k], camera.axes[k], pixels, settings, errors, rng)
        direction = direction @ camera.axes[k].T @ believed.axes[k]  # as seen by the camera that it is believed to be
        fused.add(believed.position[k], direction, depth)
        some = rng.random(len(depth)) < 0.2
        seen_at.append(believed.position[k] + direction[some] * depth[some, None])
        seen_thing.append(thing[some])
    xyz, faces = fused.mesh()
    xyz, faces = _clean(xyz, faces)
    xyz, faces = simplify(xyz.astype(np.float32), faces.astype(np.int32), 1 - settings.kept)
    xyz, faces = xyz.astype(np.float64), faces.astype(np.int64)
    thing = _labels(xyz + _strayed(xyz, rng), np.concatenate(seen_at), np.concatenate(seen_thing), rays.names)
    return Scan(xyz, faces, thing)


def _labels(xyz, seen_at, seen_thing, names):
    """(V,) the nearest of what was seen, but what stands on a floor has the fillet at its foot."""
    far, nearest = cKDTree(seen_at).query(xyz)
    thing = seen_thing[nearest]
    on_floor, floor = ~np.isin(names, ("floor", "wall"))[seen_thing], np.flatnonzero(np.isin(names, "floor")[thing])
    if on_floor.any():
        closer, other = cKDTree(seen_at[on_floor]).query(xyz[floor], distance_upper_bound=0.5)
        at_foot = closer < far[floor] + FILLET
        thing[floor[at_foot]] = seen_thing[on_floor][other[at_foot]]
    return thing


def _strayed(xyz, rng):
    """(V, 3) m, smooth: annotators follow segments, and those no border to the centimetre."""
    wave = rng.normal(size=(3, 10, 3))
    wave *= 2 * np.pi / rng.uniform(*STRAY_WAVE, (10, 3)) / np.linalg.norm(wave, axis=0)
    phase = rng.uniform(0, 2 * np.pi, (10, 3))
    return STRAY * np.sin(np.tensordot(xyz, wave, 1) + phase).sum(1) / np.sqrt(5)


def _free_places(rays, rng):
    """(P, 3) places for a camera: above floor and low things, away from high ones, on a grid."""
    low, high = rays.xyz.min(0), rays.xyz.max(0)
    x, y = np.meshgrid(np.arange(low[0], high[0], GRID), np.arange(low[1], high[1], GRID), indexing="ij")
    above = np.stack((x.ravel(), y.ravel(), np.full(x.size, high[2] + 1)), 1)
    down = np.broadcast_to([0.0, 0.0, -1.0], above.shape)
    depth, _ = rays.cast(above, down, rays.without_ceiling)
    over = above * [1, 1, 0] + [0, 0, REACH]  # what is low; from there up to what hangs, or the ceiling
    room, _ = rays.cast(over, -down)
    free = (above[:, 2] - depth < REACH) & (room > HEIGHTS[1] - REACH) & np.isfinite(room)
    if not free.any():
        raise NothingSeen("there is no place for a camera")
    clear = distance_transform_edt(np.pad(free.reshape(x.shape), 1))[1:-1, 1:-1].ravel() * GRID
    free = clear >= min(BORDER, clear.max())
    return np.stack((x.ravel()[free], y.ravel()[free], rng.uniform(*HEIGHTS, free.sum())), 1)


def _cameras(position, yaw, pitch):
    forward = np.stack((np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)), 1)
    right = np.stack((np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)), 1)
    return Camera(position, np.stack((right, np.cross(forward, right), forward), 1))


def _drifted(camera, size, rng):
    """The cameras where tracking puts them: an error that wanders with the path, and is pulled back by closed loops."""
    error = np.zeros(6)
    errors = np.array([error := 0.93 * error + rng.normal(0, size * 0.37, 6) for _ in camera.position])
    angle, axes = errors[:, 3:] / 1.5, []
    for (a, b, c), axis in zip(angle, camera.axes, strict=True):
        axes.append(axis @ (np.eye(3) + np.array([(0, -c, b), (c, 0, -a), (-b, a, 0)])))  # small angles
    axes = np.linalg.qr(np.swapaxes(axes, 1, 2))  # orthonormal again, up to signs
    signs = np.sign(np.einsum("kii->ki", axes[1]))
    return Camera(camera.position + errors[:, :3], np.swapaxes(axes[0] * signs[:, None], 1, 2))


def _pixels(settings):
    """(rows, columns, 3): right, down and forward of an image's rays, at a depth of 1."""
    wide, high = np.tan(np.deg2rad(VIEW) / 2)
    columns = int(np.ceil(2 * wide * PIXEL_AT / settings.voxel))
    rows = int(columns * high / wide)
    x, y = np.meshgrid(np.linspace(-wide, wide, columns), np.linspace(-high, high, rows))  # (rows, columns)
    return np.stack((x, y, np.ones_like(x)), -1)


def _depth_image(rays, position, axes, pixels, settings, errors, rng):
    """What one image keeps: unit directions (R, 3), measured distances (R,) and the things hit (R,)."""
    (rows, columns, _), pixel = pixels.shape, pixels.reshape(-1, 3)
    length = np.linalg.norm(pixel, axis=1)  # of a ray, per metre of depth
    direction = pixel @ axes / length[:, None]
    distance, triangle = rays.cast(position, direction)
    depth = distance / length
    image = np.where(np.isfinite(depth), depth, 99).reshape(rows, columns)
    edge = (image - minimum_filter(image, 3) > EDGE * image).ravel()  # what is behind a border is lost
    thing = np.where(triangle >= 0, rays.thing[triangle], 0)
    cosine = np.abs((direction * rays.normal[triangle]).sum(1))
    kept = (triangle >= 0) & (depth > RANGE[0]) & (depth < settings.furthest) & ~edge
    kept &= rng.random(len(depth)) < 1 / (1 + np.exp(-(cosine - GRAZING) / 0.04))
    kept &= _smooth(rng, rows, columns, 6).ravel() > _quantile(errors.lost[thing])  # whole patches of a dark thing
    z, at = depth[kept], np.flatnonzero(kept)
    sigma = errors.noise[thing[at]] * (NOISE[0] + NOISE[1] * (z - NOISE[2]) ** 2)
    z = z + errors.bulge(position + direction[at] * distance[at, None], thing[at])
    z = z + sigma * _smooth(rng, rows, columns, 2.5).ravel()[at]  # neighbours err alike: sensors match windows
    z = 1 / (np.rint(1 / z / DISPARITY_STEP + rng.uniform(-0.25, 0.25, len(z))) * DISPARITY_STEP)
    return direction[at], z * length[at], thing[at]


class _Errors:
    """What the camera gets wrong about each of the things, in every image alike."""

    def __init__(self, names, settings, rng):
        n, even = len(names), np.isin(names, EVEN)
        self.lost = rng.beta(*LOST, n)  # share of the pixels: of what is dark or shines
        self.noise = settings.noise * np.where(even, 1, np.exp(rng.uniform(*np.log(UNEVEN), n)))
        self.size = np.where(even, rng.uniform(0, EVEN_BULGE, n), np.exp(rng.uniform(*np.log(BULGE), n)))
        glossy = np.isin(names, GLOSSY)
        self.size *= np.where(glossy, GLOSSY_BULGE, 1)
        self.stretch = np.where(glossy, GLOSSY_WAVE, 1).astype(np.float32)
        wave = rng.normal(size=(3, 10))
        self.wave = (wave / np.linalg.norm(wave, axis=0) * 2 * np.pi / rng.uniform(*BULGE_WAVE, 10)).astype(np.float32)
        self.phase = rng.uniform(0, 2 * np.pi, 10).astype(np.float32)

    def bulge(self, xyz, thing):
        """(R,) m by which depths at (R, 3) are wrong: smooth in space, and large where the thing's are."""
        at = xyz.astype(np.float32) / self.stretch[thing, None]
        return self.size[thing] * np.sin(at @ self.wave + self.phase).sum(1) / np.sqrt(5)


def _quantile(share):
    """Of a standard normal distribution, by a logistic one: good to a few percent."""
    share = np.clip(share, 1e-4, 1 - 1e-4)
    return np.log(share / (1 - share)) / 1.7


def _smooth(rng, rows, columns, wave):
    """(rows, columns) of normal noise that changes over about `wave` pixels."""
    coarse = rng.normal(size=(int(rows / wave) + 3, int(columns / wave) + 3))
    at = np.meshgrid(np.arange(rows) / wave + rng.random(), np.arange(columns) / wave + rng.random(), indexing="ij")
    return 1.5 * map_coordinates(coarse, at, order=1)  # interpolation takes a third of the deviation


class _Volume:
    """Truncated signed distances on a grid, positive in front of surfaces."""

    def __init__(self, rays, voxel):
        margin = 0.3
        self.low, self.voxel = rays.xyz.min(0).astype(np.float64) - margin, voxel
        self.shape = np.ceil((rays.xyz.max(0) + margin - self.low) / voxel).astype(int) + 1
        self.distance = np.zeros(self.shape.prod(), np.float32)  # weighted sums
        self.weight = np.zeros(self.shape.prod(), np.float32)

    def add(self, origin, direction, range_):
        """Rays from (3,) along (R, 3), which end at (R,)."""
        along = np.ascontiguousarray(direction.T)  # an axis at a time: sums over three columns are slow
        lowest, shape = self.low, self.shape
        for offset in np.arange(-TRUNCATION, TRUNCATION + 0.1):
            reach = range_ + offset * self.voxel
            at = [np.rint((o + d * reach - low) / self.voxel) for o, d, low in zip(origin, along, lowest, strict=True)]
            back = [(i * self.voxel + low - o) * d for i, o, d, low in zip(at, origin, along, lowest, strict=True)]
            ahead = range_ - (back[0] + back[1] + back[2])  # of the surface, > 0 in front
            inside = np.logical_and.reduce([(i >= 0) & (i < size) for i, size in zip(at, shape, strict=True)])
            share = np.clip(1 + ahead / (TRUNCATION * self.voxel), 0, 1)  # what lies behind is known less and less
            weight = np.where(inside, share / np.maximum(range_, 1), 0)
            flat = ((at[0] * shape[1] + at[1]) * shape[2] + at[2]).astype(np.int64)
            np.add.at(self.distance, flat[inside], (weight * ahead)[inside].astype(np.float32))
            np.add.at(self.weight, flat[inside], weight[inside].astype(np.float32))

    def mesh(self):
        """xyz (V, 3), faces (F, 3) of the zero, where all corners of a cube were seen."""
        seen = (self.weight >= FEWEST_SEEN).reshape(self.shape)
        distance = np.where(seen.ravel(), self.distance / np.maximum(self.weight, 1e-9), TRUNCATION * self.voxel)
        if seen.sum() < FEWEST_VOXELS:
            raise NothingSeen("the camera saw next to nothing")
        unseen = binary_dilation(~seen, np.ones((2, 2, 2)), origin=-1)  # a cube goes by its last corner's index
        xyz, faces, _, _ = marching_cubes(distance.reshape(self.shape), 0.0, mask=~unseen)
        return xyz * self.voxel + self.low, faces


def _clean(xyz, faces):
    """Without small islands, and without vertices of no triangle."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).T
    _, part = connected_components(coo_array((np.ones(edges.shape[1]), edges), shape=(len(xyz), len(xyz))))
    large = np.bincount(part) >= SMALLEST_PART
    used, faces = np.unique(faces[large[part[faces[:, 0]]]], return_inverse=True)
    return xyz[used], faces.reshape(-1, 3)
