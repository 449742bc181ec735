"""Samples out of the cache are those out of the files, in any process; a full disk and a bad file cost no sample."""

import dataclasses
import errno
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data import scene_cache
from data.datasets import ChunkBatches, LabelPolicy, SceneFile, TrainingChunks, scene_files
from data.labels import LABEL_OF_FORMAT_1, histogram
from data.scene_cache import SceneCache, bytes_of, make_file
from data.scenes import FILTERS, Scene, SceneError, read_manifest, write_scene

ALL_FEATURES = {"features": ("colour", "normal", "height"), "augment": ("rotate", "dropout", "jitter"), "points": 300}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """5 scenes of 3,000 vertices or fewer, a tenth of which no annotation covers."""
    folder = tmp_path_factory.mktemp("scenes")
    return [write_room(folder, f"scene900{k}_00", k, 3_000 - 100 * k) for k in range(5)]


def write_room(folder, name, seed, vertices):
    rng = np.random.default_rng(seed)
    xyz = (rng.random((vertices, 3)) * (4.0, 3.0, 2.0)).astype(np.float32)
    label = rng.choice(np.array([2, 1, 0, 22], dtype=np.uint16), size=vertices, p=[0.5, 0.3, 0.1, 0.1])
    normal = np.tile(np.float32([1, 0, 0]), (vertices, 1))
    colour = rng.integers(256, size=(vertices, 3), dtype=np.uint8)
    write_scene(folder / f"{name}.h5", Scene(name, xyz, label, colour, normal))
    return SceneFile(name, folder / f"{name}.h5", vertices, histogram(label))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Temporary files are made here, on whatever room there is."""
    monkeypatch.setattr(scene_cache, "SPARE", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def chunks_of(scenes, cached=False, **options):
    chunks = TrainingChunks(scenes, seed=7, **{"points": 300, **options})
    if cached:
        path = make_file(*chunks.cache_sizes())
        chunks.cache = SceneCache(path, *chunks.cache_sizes())
        path.unlink()
    return chunks


def epochs_of(chunks, workers=0, context=None, epochs=2):
    sampler = ChunkBatches(len(chunks), 2, seed=7)
    processes = {"num_workers": workers, "persistent_workers": workers > 0, "multiprocessing_context": context}
    loader, batches = DataLoader(chunks, batch_sampler=sampler, **processes), []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def assert_same(ours, expected):
    assert len(ours) == len(expected) > 0
    for a, b in zip(ours, expected, strict=True):
        for name, value in b.items():
            assert torch.equal(torch.as_tensor(a[name]), torch.as_tensor(value)), name
            assert torch.as_tensor(a[name]).dtype == torch.as_tensor(value).dtype


@pytest.mark.parametrize(
    "options",
    [
        {},
        ALL_FEATURES,
        {"spacing": 0.2},
        {"policy": LabelPolicy("ignore", "ignore")},
        {"policy": LabelPolicy("ignore")},
    ],
    ids=["plain", "features", "spacing", "ignore", "ignore unannotated"],
)
def test_items_are_those_without_a_cache(scenes, options):
    plain, cached = chunks_of(scenes, **options), chunks_of(scenes, cached=True, **options)
    keys = [(epoch, position, position % 5) for epoch in range(2) for position in range(10)]
    assert_same([cached[key] for key in keys], [plain[key] for key in keys])
    assert all(cached.cache.read(scene) for scene in range(5))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than there are cores
@pytest.mark.parametrize("workers", [0, 1, 3, 8])
def test_samples_do_not_depend_on_the_number_of_workers(scenes, workers):
    assert_same(epochs_of(chunks_of(scenes, cached=True), workers), epochs_of(chunks_of(scenes)))


def test_a_spawned_process_has_the_cache_too(scenes):
    chunks = chunks_of(scenes, cached=True, features=("colour",))
    seen = chunks_of(scenes, features=("colour",))._read(3)
    process = multiprocessing.get_context("spawn").Process(target=chunks.cache.write, args=(3, seen))
    process.start()
    process.join()
    assert process.exitcode == 0 and chunks.cache.read(2) is None
    for ours, theirs in zip(chunks.cache.read(3)[:-1], seen[:-1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_one_process_wrote_another_reads_and_no_file_is_left(scenes, folder):
    """Two of them, as ranks are: each opens the file by its name, before that is gone."""
    chunks, others = chunks_of(scenes), chunks_of(scenes)
    path = make_file(*chunks.cache_sizes())
    chunks.cache, others.cache = (SceneCache(path, *c.cache_sizes()) for c in (chunks, others))
    path.unlink()
    written = [chunks[(0, 0, scene)] for scene in range(5)]
    others.scenes = []  # so that it can read no file
    assert_same([others[(0, 0, scene)] for scene in range(5)], written)
    for scene in range(5):
        chunks.cache.write(scene, chunks_of(scenes)._read(scene))  # by two processes at a time: once more the same
    assert_same([others[(0, 0, scene)] for scene in range(5)], written)
    assert list(folder.iterdir()) == []


def test_the_file_takes_what_was_said_and_is_closed_at_last(scenes, folder):
    chunks = chunks_of(scenes, cached=True, features=("colour",))
    epochs_of(chunks)
    stat = os.fstat(chunks.cache.descriptor)
    assert stat.st_size == bytes_of(*chunks.cache_sizes()) and stat.st_nlink == 0
    bytes_a_vertex, vertices = 19 + 4 * 3, 14_000
    assert bytes_a_vertex * vertices <= stat.st_size <= bytes_a_vertex * vertices + 6 * 2 * scene_cache.PAGE + 5 * 4096
    descriptor = chunks.cache.descriptor
    del chunks
    with pytest.raises(OSError):
        os.fstat(descriptor)


def full_after(scenes_written, monkeypatch):
    """A disk that takes so many scenes and half of the next one."""
    real, left = os.pwrite, [scenes_written * 8]  # 7 arrays and the number

    def pwrite(descriptor, content, offset):
        left[0] -= len(content) > 1
        if left[0] < 0 and len(content) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_fills_up_costs_one_line_and_no_sample(scenes, workers, monkeypatch, capfd, folder):
    chunks = chunks_of(scenes, cached=True)
    chunks[(0, 0, 0)]
    full_after(1 if workers == 0 else 0, monkeypatch)
    assert_same(epochs_of(chunks, workers), epochs_of(chunks_of(scenes)))
    found = [chunks.cache.read(scene) is not None for scene in range(5)]
    assert found[0] and sum(found) == (2 if workers == 0 else 1)
    lines = capfd.readouterr().err.splitlines()
    assert 1 <= len(lines) <= max(workers, 1)  # two processes may find it full at the same moment
    why = f"the cache in {folder} takes no more scenes (No space left on device)"
    assert lines[0] == f"{why}: each chunk of the others unpacks its own"


def test_room_is_left_for_others(scenes, monkeypatch, capfd):
    chunks = chunks_of(scenes, cached=True)
    monkeypatch.setattr(scene_cache, "SPARE", 10**18)
    chunks[(0, 0, 0)]
    chunks[(0, 0, 1)]
    assert chunks.cache.read(0) is None
    assert capfd.readouterr().err.count("less than 1000000000.0 GB would be left") == 1
    with pytest.raises(OSError, match="has .* GB left; TMPDIR chooses another folder"):
        make_file(*chunks.cache_sizes())


def test_no_file_is_left_of_one_that_cannot_be_made(scenes, monkeypatch, folder):
    def refuse(*args):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "truncate", refuse)
    with pytest.raises(OSError, match="File too large"):
        make_file(*chunks_of(scenes).cache_sizes())
    assert list(folder.iterdir()) == []


def test_a_damaged_file_is_named_as_without_a_cache(scenes, tmp_path):
    path = tmp_path / "scene9000_00.h5"
    content = bytearray(scenes[0].path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = SceneFile("scene9000_00", path, 3_000, scenes[0].histogram)
    said = []
    for cached in (False, True):
        chunks = chunks_of([damaged, scenes[1]], cached)
        for _ in range(2):
            with pytest.raises(SceneError, match=f"{path}: .*preprocess the scans again") as error:
                chunks[(0, 0, 0)]
            said.append(str(error.value))
        chunks[(0, 0, 1)]
    assert len(set(said)) == 1
    shutil.copy(scenes[0].path, path)
    assert_same([chunks[(0, 0, 0)]], [chunks_of(scenes[:2])[(0, 0, 0)]])  # mended meanwhile


def test_scene_files_of_format_1_beside_those_of_format_2(scenes, tmp_path):
    path = shutil.copy(scenes[0].path, tmp_path)
    with h5py.File(path, "r+") as file:
        label = file["label"][:].astype(np.uint8)
        del file["label"]
        file.create_dataset(LABEL_OF_FORMAT_1, data=label, chunks=label.shape, **FILTERS)
        file.attrs["format_version"] = np.int64(1)
    both = [dataclasses.replace(scenes[0], path=Path(path)), scenes[1]]
    keys = [(epoch, scene, scene) for epoch in range(2) for scene in range(2)]
    cached, plain = chunks_of(both, cached=True), chunks_of(scenes[:2])
    assert_same([cached[key] for key in keys], [plain[key] for key in keys])


def test_other_labels_than_the_manifests_fit_too(scenes, tmp_path):
    """The file was made anew, with as many vertices and more of them annotated."""
    room = write_room(tmp_path, "scene9000_00", 99, 3_000)
    stale = SceneFile(room.name, room.path, 3_000, {0: 2_999, 1: 1})
    plain, cached = chunks_of([stale]), chunks_of([stale], cached=True)
    assert_same([cached[(0, k, 0)] for k in range(3)], [plain[(0, k, 0)] for k in range(3)])


def test_a_folder_that_nothing_can_be_written_to(tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    for path in [*data.rglob("*"), data]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    scenes = scene_files(data, read_manifest(data), ["train"])
    before = sorted((p, p.stat().st_mtime_ns) for p in data.rglob("*"))
    assert_same(epochs_of(chunks_of(scenes, cached=True)), epochs_of(chunks_of(scenes)))
    assert sorted((p, p.stat().st_mtime_ns) for p in data.rglob("*")) == before
    for path in [data, *data.rglob("*")]:
        path.chmod(0o755)
