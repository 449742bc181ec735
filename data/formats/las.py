"""LAS and LAZ, in and out, by laspy and lazrs. V points."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.columns import KEPT
from data.formats.stored import Stored, check_unpacked, library
from data.scans import ScanError

LAS = (".las", ".laz")  # endings
VLR = 54  # bytes of the shortest record before the points of a LAS file
COMPRESSED = 128  # in its point format
LEAST_CHUNK = 20  # bytes of the smallest point, with which each chunk begins
AT_A_TIME = 500_000  # points that are copied at a time
EVER_RECORDED = (("classification",), ("intensity",), ("red", "green", "blue"))  # 0 throughout where they never were
LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}  # of a compressed chunk by item of the point; 14, extra bytes: one a byte
COPC = "copc"  # the user of records that are true of the order of points in one file alone
MOST_NAME = 32  # bytes of the name of an extra dimension; LAS specification 1.4-R15, table 24


def read_las(path: Path) -> Stored:
    """A LAS or LAZ file; x, y and z are doubles. Raises ScanError or whatever laspy and lazrs do."""
    with _opened(path) as reader:
        header = reader.header
        points = reader.read_points(-1)
    if len(points) != header.point_count:
        raise ValueError(f"the header declares {header.point_count} points, there are {len(points)}")
    names = [name for name in header.point_format.dimension_names if name not in ("X", "Y", "Z")]
    columns = {name: points[name] for name in (*"xyz", *names)}
    for names in EVER_RECORDED:
        if all(name in columns and not np.any(columns[name]) for name in names):
            columns |= dict.fromkeys(names)
    return Stored(columns, step=float(np.abs(header.scales).max()))


def write_las(path: Path, out: Path, columns: Mapping[str, np.ndarray], classification: np.ndarray | None = None):
    """Write the LAS or LAZ file `path` again as `out`, with an extra dimension for each of the columns (V,).

    All else stays: points and their order, scales, the system of coordinates, records before and behind the points. An
    extra dimension that has a column's name already is kept as input_label, ...; one that is called so already stays.

    Args: out: compressed if it ends in .laz, or .laz.tmp. classification (V,) of ids, None to leave it: those that fit
        into the format's field are written there, the others are 0, "never classified"; what was there is kept as
        input_classification. Raises ScanError or OSError.
    """
    try:
        _copy_las(path, out, columns, classification)
    except (ScanError, OSError):
        raise
    except Exception as error:  # of laspy and lazrs
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ScanError(f"{out}: cannot be written ({cause}); the PLY file beside it is whole") from error


def most_class(point_format: int) -> int:
    """The highest id that the field `classification` of a point format holds."""
    return 31 if point_format < 6 else 255  # LAS specification 1.4-R15: 5 bits, and a byte


def _copy_las(path, out, columns, classification):
    import laspy

    with _opened(path) as reader:
        header, kept = _with_columns(laspy, reader.header, columns, classification)
        reader.read_evlrs()
        backend = laspy.LazBackend.Lazrs
        compress = out.name.lower().removesuffix(".tmp").endswith(".laz")
        with out.open("wb") as stream, laspy.LasWriter(stream, header, compress, backend, closefd=False) as writer:
            for number, points in enumerate(reader.chunk_iterator(AT_A_TIME)):
                record = laspy.ScaleAwarePointRecord.zeros(len(points), header=header)
                for name in set(points.array.dtype.names) & set(record.array.dtype.names):
                    record.array[name] = points.array[name]
                for name in kept:
                    record[KEPT + name] = points[name]
                part = slice(number * AT_A_TIME, number * AT_A_TIME + len(points))
                for name, values in columns.items():
                    record[name] = values[part]
                if classification is not None:
                    ids = classification[part]
                    record["classification"] = np.where(ids <= most_class(header.point_format.id), ids, 0)
                writer.write_points(record)
            if evlrs := [record for record in reader.evlrs or () if record.user_id != COPC]:
                writer.write_evlrs(laspy.vlrs.vlrlist.VLRList(evlrs))


def _with_columns(laspy, header, columns, classification):
    """A header with the extra dimensions, and the names of those that are kept under another name."""
    header = header.copy()
    header.vlrs = [record for record in header.vlrs if record.user_id != COPC]
    extra = {dimension.name: dimension.dtype for dimension in header.point_format.extra_dimensions}
    kept = {name: extra[name] for name in columns if name in extra}
    if classification is not None:
        kept["classification"] = np.dtype("u1")
    kept = {name: dtype for name, dtype in kept.items() if KEPT + name not in extra and len(KEPT + name) <= MOST_NAME}
    header.remove_extra_dims([name for name in columns if name in extra])
    new = {name: values.dtype for name, values in columns.items()} | {KEPT + name: of for name, of in kept.items()}
    header.add_extra_dims([laspy.ExtraBytesParams(name, dtype) for name, dtype in new.items()])
    return header, tuple(kept)


def _opened(path):
    """A reader of a file whose header was compared with its size."""
    laspy = library(path, "laspy")
    size = path.stat().st_size
    with path.open("rb") as stream:
        if _is_compressed(stream, size):
            library(path, "lazrs")
    # not lazrs's parallel reader: a damaged file makes it take any amount of memory
    reader = laspy.open(path, read_evlrs=False, laz_backend=laspy.LazBackend.Lazrs)
    header = reader.header
    try:
        declared = header.point_count * header.point_format.size
        if not header.are_points_compressed and declared > size - header.offset_to_point_data:
            raise ValueError(f"the header declares {header.point_count} points, the file has {size} bytes")
        check_unpacked(path, declared)
        if header.are_points_compressed:
            _check_layers(path, header)
    except BaseException:
        reader.close()
        raise
    return reader


def _is_compressed(stream, size):
    """Whether the points are. Raise ValueError for counts that laspy and lazrs would allocate memory for, and the file
    cannot have."""

    def number(place, count, origin=0):
        stream.seek(place, origin)
        return int.from_bytes(stream.read(count), "little", signed=count == 8)

    first, records = number(96, 4), number(100, 4)
    if max(first, VLR * records) > size:
        raise ValueError(f"{records} records and points from byte {first} on are declared, the file has {size} bytes")
    if not number(104, 1) & COMPRESSED:
        return False
    table = number(first, 8)  # where that of the chunks is; -1: the file's end says so
    if (chunks := number((number(-8, 8, 2) if table == -1 else table) + 4, 4)) > size / LEAST_CHUNK:
        raise ValueError(f"{chunks} chunks of points are declared, the file has {size} bytes")
    return True


def _check_layers(path, header):
    """Raise ValueError for layers of a chunk that are declared larger than the chunk: lazrs would allocate them first.

    A chunk of the point formats from 6 on is the first point as it is, the number of points, and the sizes of the
    layers, each of 4 bytes, before the layers. Source: the LASzip specification, "layered chunked".
    """
    import lazrs

    vlr = lazrs.LazVlr(header.vlrs.get("LasZipVlr")[0].record_data)
    (items,) = struct.unpack_from("<H", vlr.record_data(), 32)
    items = [struct.unpack_from("<HH", vlr.record_data(), 34 + 6 * item) for item in range(items)]  # type, bytes
    if not items:
        raise ValueError("its points have no parts")
    if not all(kind in (*LAYERS, 14) for kind, _ in items):
        return
    sizes = struct.Struct(f"<{sum(LAYERS.get(kind, size) for kind, size in items)}I")
    point = sum(size for _, size in items)
    with path.open("rb") as stream:
        stream.seek(header.offset_to_point_data)
        chunks = lazrs.read_chunk_table(stream, vlr)
        start = stream.tell()
        for _, length in chunks:
            stream.seek(start + point + 4)
            declared = sum(sizes.unpack(stream.read(sizes.size)))
            if declared > length:
                raise ValueError(f"a chunk of {length} bytes declares {declared}")
            start += length
