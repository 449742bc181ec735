"""The scene file: one preprocessed scan in one HDF5 file, and the manifest that lists them. Schema: data/README.md.

A scene keeps the scan's vertices in the scan's order. Files are written whole or not at all, equal scenes give equal
bytes, and every block carries a checksum, so that a damaged file is an error rather than a wrong score.
"""

import io
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from data.atomic_write import replacing
from data.labels import HISTOGRAM_OF_FORMAT_1, LABEL_OF_FORMAT_1, NUM_IDS, SCANNET20, from_json

FORMAT_VERSION = 2  # of what is written; format 1 is read, too
SPLITS = ("train", "val", "test")
MANIFEST = "manifest.json"
SCENE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")  # becomes a file name: nothing that could be a path
FIELDS = {  # name: (dtype, values a row); a row is a vertex, or a triangle for faces
    "xyz": (np.float32, (3,)),
    "label": (np.uint16, ()),
    "colour": (np.uint8, (3,)),
    "normal": (np.float32, (3,)),
    "intensity": (np.float32, ()),
    "faces": (np.int32, (3,)),
}
FILTERS = {"shuffle": True, "compression": 1, "fletcher32": True}  # xyz and label of 150,000 vertices read in 6 ms
FILTER_IDS = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32]  # the same, as applied
MAY_BE_ABSENT = ("label", "faces")  # read as None: a scan without labels, a cloud without a mesh
WITHOUT = {  # what to do about a field that is asked for and not there
    "normal": "preprocess it with --normals, if it has faces",
    "colour": "the scan has no colours: train without --features colour",
    "intensity": "the scan has no intensities: train without --features intensity",
}


class SceneError(Exception):
    """A scene file or a manifest that cannot be used: the message names the file, the fault and the remedy."""


@dataclass(frozen=True)
class Scene:
    """V vertices of a scan, in the mesh's order, +z up. Fields that were not read, or that it lacks, are None."""

    name: str
    xyz: np.ndarray | None = None  # (V, 3) float32, metres
    label: np.ndarray | None = None  # (V,) uint16, ids of the label space
    colour: np.ndarray | None = None  # (V, 3) uint8 RGB
    normal: np.ndarray | None = None  # (V, 3) float32, unit length
    intensity: np.ndarray | None = None  # (V,) float32 in [0, 1]
    faces: np.ndarray | None = None  # (F, 3) int32, vertex indices
    offset: np.ndarray | None = None  # (3,) float64, metres: xyz + offset are the scan's coordinates; None: xyz are


def write_scene(path, scene: Scene) -> None:
    """Write `scene` (xyz needed) to `path`; a reader sees the old file or the new one, never a part.

    The new file was read back, checksums and all, before it gets its name. Raises SceneError if that fails, or if a
    field has a wrong dtype, shape or value.
    """
    path = Path(path)
    arrays = {field: getattr(scene, field) for field in FIELDS if getattr(scene, field) is not None}
    try:
        if "xyz" not in arrays:
            raise ValueError("there is no 'xyz'")
        for field, array in arrays.items():
            _check_layout(field, array, len(scene.xyz))
            _check_values(field, array, len(scene.xyz))
    except ValueError as error:
        raise SceneError(f"{path}: not written, {error}") from error
    content = _file_image(scene, arrays)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        try:
            read_scene(temporary, arrays)
        except SceneError as error:
            library = f"h5py {h5py.__version__} with HDF5 {h5py.version.hdf5_version}"
            raise SceneError(f"{path}: not written, what {library} wrote cannot be read back ({error})") from error


def read_scene(path, fields=("xyz", "label")) -> Scene:
    """Read `fields` (names in FIELDS; None: all that are there) of the scene file at `path`, checksums verified.

    `label` is None for a scan without labels, `faces` for a cloud without a mesh. Raises SceneError if the file is
    missing, truncated, damaged, of another version, lacks a field, refers to data elsewhere, or if a dtype, shape or
    value is not the schema's. Memory is bounded by what the file holds, whatever it declares.
    """
    path = Path(path)
    arrays, offset = {}, None
    try:
        if not path.is_file():
            raise SceneError(f"{path}: no such scene file; preprocess the scans again")
        # no lock: files are only ever replaced whole, and locks fail on some network file systems
        with h5py.File(path, "r", locking=False) as file:
            version = _attribute(file, "format_version", "i")
            if version not in (1, FORMAT_VERSION):
                raise ValueError(f"has format version {version}, this code reads 1 and {FORMAT_VERSION}")
            name = _attribute(file, "name", "S").decode()
            vertices = int(_attribute(file, "vertices", "i"))
            if "offset" in file.attrs:
                offset = _attribute(file, "offset", "f", (3,))
                if not np.isfinite(offset).all():
                    raise ValueError(f"has the offset {offset}")
            named = {LABEL_OF_FORMAT_1: "label"} if version == 1 else {}
            stored = {named.get(key, key): key for key in file}  # by link: a field with a damaged header is there, too
            for field in FIELDS.keys() & stored.keys() if fields is None else fields:
                if field not in stored and field in MAY_BE_ABSENT:
                    continue
                if field not in stored and field in WITHOUT:
                    raise SceneError(f"{path}: there is no '{field}'; {WITHOUT[field]}")
                if field not in stored:
                    raise ValueError(f"there is no '{field}'")
                arrays[field] = _read_block(file, stored[field], vertices).astype(FIELDS[field][0], copy=False)
                _check_values(field, arrays[field], vertices)
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError, ValueError, MemoryError, zlib.error) as error:
        cause = error if isinstance(error, ValueError) else f"truncated, damaged or no scene file ({error})"
        raise SceneError(f"{path}: {cause}; preprocess the scans again, which rebuilds this file") from error
    return Scene(name=name, offset=offset, **arrays)


def write_manifest(data_dir, manifest: dict) -> None:
    """Write what `read_manifest` returns to `data_dir`/manifest.json, whole or not at all."""
    manifest = {**manifest, "label_space": manifest["label_space"].as_json()}
    with replacing(Path(data_dir) / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_manifest(data_dir) -> dict:
    """The manifest of a preprocessed data set, checked; its `label_space` is a LabelSpace, and a scene's `histogram`
    {id: count}. Raises SceneError if it is absent, damaged or inconsistent.
    """
    path = Path(data_dir) / MANIFEST
    advice = f"preprocess scans with --out {data_dir}"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SceneError(f"{path}: no such file; {advice}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SceneError(f"{path}: cannot be read ({error}); {advice}") from error
    try:
        return _checked_manifest(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise SceneError(f"{path}: entries are missing or of a wrong type ({error!r}); {advice}") from error
    except ValueError as error:
        raise SceneError(f"{path}: {error}; {advice}") from error


def _checked_manifest(manifest):
    """The manifest as of this format. ValueError, or KeyError, TypeError, AttributeError where an entry is no good."""
    version = manifest["format_version"]
    if version not in (1, FORMAT_VERSION):
        raise ValueError(f"has format version {version}, this code reads 1 and {FORMAT_VERSION}")
    space = SCANNET20 if version == 1 else from_json(manifest["label_space"])
    _check_types(manifest, {"splits": dict, "expected": dict, "failed": dict, "scenes": dict})
    _check_types(manifest["expected"], dict.fromkeys(SPLITS, int))
    _check_types(manifest["splits"], dict.fromkeys(SPLITS, list))
    listed = set()
    for scan_id in [scan_id for split in SPLITS for scan_id in manifest["splits"][split]]:
        scene = manifest["scenes"][scan_id]
        if scan_id in listed:
            raise ValueError(f"scene '{scan_id}' is listed twice")
        listed.add(scan_id)
        if version == 1:
            scene["histogram"] = {id: n for id, n in enumerate(scene.pop(HISTOGRAM_OF_FORMAT_1)) if n}
        _check_types(scene, {"file": str, "vertices": int, "labelled": bool, "sha256": str, "histogram": dict})
        if scene["file"] != f"scenes/{scan_id}.h5" or not SCENE_NAME.fullmatch(scan_id):
            raise ValueError(f"scene '{scan_id}' names the file '{scene['file']}', not scenes/<scan id>.h5")
        scene["histogram"] = histogram = {int(id): count for id, count in scene["histogram"].items()}
        total = scene["vertices"] if scene["labelled"] else 0
        counts = all(0 <= id < NUM_IDS and type(n) is int and 0 < n < 2**63 for id, n in histogram.items())
        if not counts or sum(histogram.values()) != total:
            raise ValueError(f"the histogram of scene '{scan_id}' is not one of its {total} labels")
        if outside := space.outside(histogram):
            raise ValueError(f"scene '{scan_id}' has the ids {list(outside)}, and '{space.name}' does not")
    return {**manifest, "format_version": FORMAT_VERSION, "label_space": space}


def _check_types(entries, types):
    for key, kind in types.items():
        if not isinstance(entries[key], kind):
            raise TypeError(f"'{key}' is not of type {kind.__name__}")


def _check_layout(field, array, vertices):
    """Raise ValueError unless the array or dataset has the schema's dtype and shape."""
    dtype, row = FIELDS[field] if field in FIELDS else (np.uint8, ())  # a label of format 1
    if array.dtype != dtype:
        raise ValueError(f"'{field}' is {array.dtype}, not {np.dtype(dtype)}")
    if array.ndim != 1 + len(row) or array.shape[1:] != row:
        raise ValueError(f"'{field}' has shape {array.shape}, not {('rows', *row)}")
    if field != "faces" and array.shape[0] != vertices:
        raise ValueError(f"'{field}' has {array.shape[0]} rows for {vertices} vertices")
    if vertices < 1:
        raise ValueError("the scene has no vertices")


def _check_values(field, array, vertices):
    """Raise ValueError unless the values are possible ones."""
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise ValueError(f"'{field}' holds NaN or infinite values")
    if field == "intensity" and not 0 <= array.min() <= array.max() <= 1:
        raise ValueError(f"'intensity' goes from {array.min()} to {array.max()}, not within 0 and 1")
    if field == "faces" and array.size and not 0 <= array.min() <= array.max() < vertices:
        raise ValueError(f"'faces' refer to vertices {array.min()} to {array.max()} of {vertices}")


def _attribute(file, key, kind, shape=()):
    """One attribute: a value of numpy's dtype kind `kind`, or `shape` of them, and no reference or text elsewhere."""
    attribute = file.attrs.get_id(key)
    if attribute.shape != shape or attribute.dtype.kind != kind:
        raise TypeError(f"attribute '{key}' has shape {attribute.shape} and type {attribute.dtype}")
    return file.attrs[key]


def _read_block(file, field, vertices):
    """The values of a dataset as write_scene makes it: one block in this very file. Raise ValueError if it is not.

    It is unpacked here, about as fast as by HDF5, which (2.0) allocates whatever the dataset declares, reads beyond the
    end of a block that unpacks to less, and unpacks all of one that holds more.
    """
    if not isinstance(file.get(field, getlink=True), h5py.HardLink):
        raise ValueError(f"'{field}' is a link, not data")
    dataset = file[field]
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the data of '{field}' are in other files")
    _check_layout(field, dataset, vertices)
    if dataset.size == 0:
        return np.zeros(dataset.shape, dataset.dtype)
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(position)[0] for position in range(properties.get_nfilters())]
    if dataset.chunks != dataset.shape or filters != FILTER_IDS:
        raise ValueError(f"'{field}' is not one block with shuffle, gzip and Fletcher-32, so it has no checksum")
    skipped, block = dataset.id.read_direct_chunk((0,) * dataset.ndim)
    packed, checksum = block[:-4], block[-4:]
    if skipped or not _is_fletcher32(packed, checksum):
        raise ValueError(f"'{field}' is damaged: its checksum does not hold")
    inflate = zlib.decompressobj()
    shuffled = inflate.decompress(packed, dataset.nbytes + 1)
    if len(shuffled) != dataset.nbytes or not inflate.eof:
        raise ValueError(f"'{field}' does not unpack to the {dataset.nbytes} bytes that it declares")
    planes = np.frombuffer(shuffled, np.uint8).reshape(dataset.dtype.itemsize, -1)  # all first bytes, all second, ...
    return np.stack(planes, axis=1).view(dataset.dtype).reshape(dataset.shape)


def _is_fletcher32(data, checksum):
    """Whether the 4 bytes are the checksum of `data`: of words w_0 to w_n-1, sum w_i and sum (n - i) w_i mod 65535."""
    width = 512
    words = np.frombuffer(data + bytes(-len(data) % (2 * width)), ">u2").reshape(-1, width)  # i = width * row + column
    rows, columns = words.sum(axis=1, dtype=np.int64) % 65535, words.sum(axis=0, dtype=np.int64)
    total = rows.sum()
    by_position = width * (rows @ np.arange(len(rows))) + columns @ np.arange(width)
    wanted = [total % 65535, ((len(data) + 1) // 2 * total - by_position) % 65535]
    return (np.frombuffer(checksum, "<u2") % 65535).tolist() == wanted  # HDF5 leaves 65535 where the remainder is 0


def _file_image(scene, arrays):
    """The bytes of a scene file, made in memory, as HDF5 itself crashes on a full disk.

    Without times, so that equal scenes are equal bytes, and with checksums of HDF5's own structures. That of an image
    made by HDF5 before 2.0 does not hold; there a file-like object takes the bytes, when the file is closed.
    """
    creation, access = (h5py.h5p.create(kind) for kind in (h5py.h5p.FILE_CREATE, h5py.h5p.FILE_ACCESS))
    creation.set_obj_track_times(False)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    memory, has_image = io.BytesIO(), h5py.version.hdf5_version_tuple >= (2, 0, 0)
    if has_image:
        access.set_fapl_core(backing_store=False)
    else:
        access.set_fileobj_driver(h5py.h5fd.fileobj_driver, memory)
    with h5py.File(h5py.h5f.create(b"scene", h5py.h5f.ACC_TRUNC, creation, access)) as file:
        file.attrs.update(format_version=FORMAT_VERSION, vertices=len(scene.xyz))
        # of fixed length: HDF5 keeps other strings in a heap that has no checksum
        file.attrs["name"] = np.bytes_(scene.name.encode())
        if scene.offset is not None:
            file.attrs["offset"] = scene.offset
        for field, array in arrays.items():
            filters = FILTERS | {"chunks": array.shape} if array.size else {}  # there are no empty chunks
            file.create_dataset(field, data=array, track_times=False, **filters)
        file.flush()
        content = file.id.get_file_image() if has_image else None
    return content or memory.getvalue()
