"""Boxes to a mesh such as a depth camera would have left of them: jittered triangles, holes, small segments.

V vertices, F triangles; coordinates in metres, +z up.
"""

from typing import NamedTuple

import numpy as np

from data.rooms.objects import Box

SPACING = 0.038  # m between vertices of furniture: about 800 vertices a square metre
JITTER = 0.38  # of the spacing, within the surface
WAVES, WAVE_RMS = 24, 0.020  # m; leaves walls the 17 mm around their plane that real ones have
WAVE_LENGTH = (0.5, 2.5)
NOISE = 0.0025  # m, per vertex
CELL = 0.58  # m; a segment is about a cell of one side of a part
SMALL_PART = 100  # vertices; such a part is one segment
SMALLEST_SEGMENT = 32  # vertices; ScanNet's segmentator gives 20 and more
MAP_WIDTH = 360  # pixels of a camera's panoramic depth map, two to one
DEPTH_TOLERANCE = (0.05, 0.02)  # m, and share of the depth
GRAZING = 0.06  # smallest cosine under which a surface is still scanned


class Mesh(NamedTuple):
    xyz: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) int64, counter-clockwise seen from the side that can be seen
    cell: np.ndarray  # (V,) int64: part, side and grid cell, the pieces segments are made of


def box_mesh(size: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, inside_out: bool = False) -> Mesh:
    """Surface of a box from the origin to `size` (3,), its vertices about `spacing` (3,) apart, welded at the edges."""
    n = np.maximum(np.rint(size / spacing).astype(int), 1)
    lattice = np.stack(np.meshgrid(*(np.arange(k + 1) for k in n), indexing="ij"), -1)  # (nx + 1, ny + 1, nz + 1, 3)
    extreme = (lattice == 0) | (lattice == n)
    on_surface = extreme.any(-1)
    ids = np.cumsum(on_surface.ravel()).reshape(on_surface.shape) - 1
    index, extreme = lattice[on_surface], extreme[on_surface]  # (V, 3)
    moved = rng.uniform(-JITTER, JITTER, index.shape)
    moved[extreme] = 0  # stay in the side, on the edge, at the corner
    xyz = (index + moved) * (size / n)

    faces, side = [], np.zeros(len(index), int)
    for axis in range(3):
        for end in (0, n[axis]):
            grid = ids.take(end, axis=axis)
            a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
            if (end == 0) != (axis == 1):  # the other two axes in order turn clockwise around y
                b, d = d, b
            a, b, c, d = (v.ravel() for v in (a, b, c, d))
            turn = rng.random(len(a)) < 0.5  # which diagonal
            a, b, c, d = (np.where(turn, q, p) for p, q in ((a, b), (b, c), (c, d), (d, a)))
            faces += [np.stack((a, b, c), 1), np.stack((a, c, d), 1)]
            side[grid.ravel()] = 2 * axis + (end > 0)
    faces = np.concatenate(faces)
    if inside_out:
        faces = faces[:, ::-1]

    if len(xyz) < SMALL_PART:
        return Mesh(xyz, faces, np.zeros(len(xyz), int))
    offset, length = rng.random(3), CELL * rng.uniform(0.85, 1.3)
    wavy = xyz + 0.05 * np.sin(9 * np.roll(xyz, 1, axis=1) + 6 * offset)  # no straight borders
    key = np.floor(wavy / length + offset).astype(int) + 1  # up to 60 cells an axis
    axis = side // 2
    key[np.arange(len(key)), axis] = 0  # a side is cut along its own two axes
    return Mesh(xyz, faces, ((side * 64 + key[:, 0]) * 64 + key[:, 1]) * 64 + key[:, 2])


def part_mesh(box: Box, size: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A box of an object of `size` (3,), in the object's frame: x along its width, y from back to front, z up."""
    low, high = np.array([(box.x0, box.y0, box.z0), (box.x1, box.y1, box.z1)]) * size
    mesh = box_mesh(high - low, np.full(3, SPACING), rng)
    xyz, faces = mesh.xyz, mesh.faces
    if box.roundness:
        u = 2 * xyz[:, :2] / (high - low)[:2] - 1  # (V, 2) in [-1, 1]
        disc = u * np.sqrt(1 - u[:, ::-1] ** 2 / 2)  # the square mapped onto the disc
        xyz[:, :2] += box.roundness * (disc - u) / 2 * (high - low)[:2]
    if box.folds:
        xyz[:, 1] += box.folds * np.sin(25 * xyz[:, 0]) * (0.4 + 0.6 * np.sin(5 * xyz[:, 0]) ** 2)  # one every 25 cm
    if box.holes:  # where smooth noise is lowest, nothing was scanned
        noise = np.sin(xyz[faces].mean(1) @ rng.normal(0, 9, (3, 6)) + rng.uniform(0, 6.3, 6)).sum(1)
        faces = faces[noise > np.quantile(noise, box.holes)]
    return Mesh(xyz + low, faces, mesh.cell)


def roughen(xyz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """xyz (V, 3) moved by one smooth vector field, as the drift of a scan does, and by a little noise."""
    direction = rng.normal(size=(3, WAVES))
    frequency = 2 * np.pi / rng.uniform(*WAVE_LENGTH, WAVES)
    phase = xyz.astype(np.float32) @ (direction / np.linalg.norm(direction, axis=0) * frequency).astype(np.float32)
    field = np.sin(phase + rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)) @ rng.normal(size=(WAVES, 3))
    return xyz + WAVE_RMS * np.sqrt(2 / WAVES) * field + rng.normal(0, NOISE, xyz.shape)


def seen_faces(xyz: np.ndarray, faces: np.ndarray, cameras: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """(F,) bool: triangles that a camera sees, none of which looks up more steeply than its `highest` tangent.

    A camera is a panoramic depth map into which the vertices and the triangles' centres are splatted.

    Args: xyz (V, 3), faces (F, 3), cameras (K, 3) positions, highest (K,) tangents of elevations.
    """
    corners = xyz[faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    centres = corners.mean(1)
    samples = np.concatenate((centres, xyz)).astype(np.float32)
    seen = np.zeros(len(faces), bool)
    for camera, tangent in zip(cameras, highest, strict=True):
        ray = samples - camera.astype(np.float32)
        flat = np.hypot(ray[:, 0], ray[:, 1])
        depth = np.hypot(flat, ray[:, 2])
        column = (np.arctan2(ray[:, 1], ray[:, 0]) * (MAP_WIDTH / (2 * np.pi))).astype(np.int32) % MAP_WIDTH
        row = (np.arctan2(ray[:, 2], flat) * (MAP_WIDTH / (2 * np.pi)) + MAP_WIDTH / 4).astype(np.int32)
        pixel = row * MAP_WIDTH + column
        nearest = np.full((MAP_WIDTH // 2 + 1) * MAP_WIDTH, np.inf, np.float32)
        np.minimum.at(nearest, pixel, depth)
        k = len(faces)  # the centres come first
        in_front = depth[:k] <= nearest[pixel[:k]] * (1 + DEPTH_TOLERANCE[1]) + DEPTH_TOLERANCE[0]
        facing = -(ray[:k] * normals).sum(1) > GRAZING * depth[:k]
        seen |= in_front & facing & (ray[:k, 2] < tangent * flat[:k])
    # as fusion does: no island of one triangle, no hole of one
    around = np.bincount(faces.ravel(), np.repeat(seen, 3)) / np.maximum(np.bincount(faces.ravel()), 1)  # (V,)
    return around[faces].mean(1) > 0.5


def segments(part: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pieces to segments: one with fewer than SMALLEST_SEGMENT vertices joins its neighbours in the same object.

    Args: part (V,) int keys of pieces, increasing with the object; owner (V,) int object of each vertex.
    Returns: segment (V,) int64 from 0 without gaps; owner (S,) of each segment.
    """
    _, first, piece, sizes = np.unique(part, return_index=True, return_inverse=True, return_counts=True)
    piece_owner, starts, size = owner[first], [], 0
    for i in range(len(first)):
        if not starts or piece_owner[i] != piece_owner[starts[-1]] or size >= SMALLEST_SEGMENT:
            starts.append(i)
            size = 0
        size += sizes[i]
    segment = np.searchsorted(starts, piece, side="right") - 1
    owner_of = piece_owner[starts]
    last_of_object = np.flatnonzero(np.bincount(segment) < SMALLEST_SEGMENT)  # only the last can be too small
    joins = np.zeros(len(starts), int)
    joins[[s for s in last_of_object if s and owner_of[s - 1] == owner_of[s]]] = 1
    return (segment - np.cumsum(joins)[segment]), owner_of[joins == 0]
