"""What feeds the step: ranks share a cache and see the samples of one rank; copies are ahead of the steps on a GPU."""

import contextlib
import platform
import tempfile
import threading
from types import SimpleNamespace

import pytest
import torch

from data import scene_cache
from data.datasets import ChunkBatches, TrainingChunks, scene_files
from data.scenes import read_manifest
from training import loader, ranks
from training.loader import ahead, chunk_loader, share_cache

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Temporary files are made here, on whatever room there is."""
    monkeypatch.setattr(scene_cache, "SPARE", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def scenes(rooms):
    data = rooms(train=4, val=0)
    return scene_files(data, read_manifest(data), ["train"])


@pytest.fixture
def run_ranks(monkeypatch):
    """Calls work(rank) in as many threads as there are machines' names, each of which is a rank on that machine."""

    def run(machines, work):
        own, barrier = threading.local(), threading.Barrier(len(machines))
        given, results = [None] * len(machines), [None] * len(machines)

        def gather(value):
            given[own.rank] = value
            barrier.wait(30)
            values = list(given)
            barrier.wait(30)
            return values

        def be(rank):
            own.rank = rank
            results[rank] = work(rank)

        monkeypatch.setattr(ranks, "rank", lambda: own.rank)
        monkeypatch.setattr(ranks, "gather_from_ranks", gather)
        monkeypatch.setattr(platform, "node", lambda: machines[own.rank])
        threads = [threading.Thread(target=be, args=(rank,)) for rank in range(len(machines))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results

    return run


def points_of(scenes, cache, rank=0, world_size=1):
    chunks = TrainingChunks(scenes, seed=3, points=200)
    notes = share_cache(chunks, cache)
    batches, points = ChunkBatches(len(chunks), 4, 3, rank, world_size), []
    for epoch in range(3):
        batches.set_epoch(epoch)
        points += [batch["points"] for batch in chunk_loader(chunks, batches, 0, CPU)]
    return torch.stack(points), notes, chunks


@pytest.mark.parametrize("machines", [["a"], ["a", "a"], ["a", "b", "a", "b"]])
def test_ranks_with_a_cache_see_the_samples_of_one_without(scenes, folder, run_ranks, machines):
    expected, notes, chunks = points_of(scenes, "none")
    assert notes == ["no cache of scenes: each chunk unpacks its scene"] and chunks.cache is None
    found = run_ranks(machines, lambda rank: points_of(scenes, "auto", rank, len(machines)))
    assert torch.equal(torch.cat([points for points, _, _ in found], dim=1), expected)
    said = f"cache of scenes: up to 1 MB in {folder}, for as long as the run lasts"
    assert all(notes == [said] for _, notes, _ in found)
    files = [scene_cache.os.fstat(chunks.cache.descriptor).st_ino for _, _, chunks in found]
    assert [files.index(file) for file in files] == [machines.index(machine) for machine in machines]
    assert list(folder.iterdir()) == []


def test_without_room_there_is_no_cache_and_the_run_says_why(scenes, folder, monkeypatch):
    monkeypatch.setattr(scene_cache, "SPARE", 10**18)
    expected, _, _ = points_of(scenes, "none")
    points, (note,), chunks = points_of(scenes, "auto")
    assert torch.equal(points, expected) and chunks.cache is None
    assert note.startswith(f"no cache of scenes, which would be up to 1 MB ({folder} has ")
    assert note.endswith(" GB left; TMPDIR chooses another folder): each chunk unpacks its scene")


def test_a_rank_that_cannot_open_the_file_goes_without(scenes, folder, run_ranks, monkeypatch):
    """Ranks in containers of their own may have one machine's name, and no common folder."""
    real = loader.SceneCache

    def elsewhere(path, *sizes):
        if ranks.rank() == 1:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path, *sizes)

    monkeypatch.setattr(loader, "SceneCache", elsewhere)
    found = run_ranks(["a", "a"], lambda rank: points_of(scenes, "auto", rank, 2))
    assert [chunks.cache is None for _, _, chunks in found] == [False, True]
    assert all("no cache of scenes in rank 1 (" in notes[1] for _, notes, _ in found)
    assert list(folder.iterdir()) == []


def test_on_the_cpu_batches_are_as_they_come():
    batches = [{"points": torch.zeros(1)}, {"points": torch.ones(1)}]
    assert all(ours is theirs for ours, theirs in zip(ahead(iter(batches), CPU), batches, strict=True))
    assert chunk_loader([0], [[0]], 0, CPU).pin_memory is False
    assert chunk_loader([0], [[0]], 0, torch.device("cuda")).pin_memory is True


class Recorded:
    """Instead of a tensor: says when it is copied and used."""

    def __init__(self, number, events):
        self.number, self.events = number, events

    def to(self, device, non_blocking):
        assert non_blocking and self.events.stream == "copying"
        self.events.append(f"copy {self.number}")
        return self

    def record_stream(self, stream):
        assert stream.name == "current"


class Events(list):
    stream = "current"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_on_a_gpu_the_next_batch_is_copied_before_the_step(monkeypatch, count):
    events = Events()

    @contextlib.contextmanager
    def within(stream):
        events.stream = "copying"
        yield
        events.stream = "current"

    copied = [0]

    def record_event():
        copied[0] += 1
        return copied[0] - 1

    copying = SimpleNamespace(record_event=record_event)
    current = SimpleNamespace(name="current", wait_event=lambda number: events.append(f"wait {number}"))
    fake = SimpleNamespace(Stream=lambda device: copying, stream=within, current_stream=lambda device: current)
    monkeypatch.setattr(torch, "cuda", fake)
    batches = ({name: Recorded(k, events) for name in loader.ON_DEVICE} | {"scene": k} for k in range(count))
    for batch in ahead(batches, SimpleNamespace(type="cuda")):
        events.append(f"step {batch['scene']}")
    once = list(dict.fromkeys(events))  # three tensors are copied
    expected = ["copy 0", "copy 1", "wait 0", "step 0", "copy 2", "wait 1", "step 1", "wait 2", "step 2"]
    assert once == [event for event in expected if int(event[-1]) < count]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_arrive_whole_on_a_gpu(scenes):
    device, chunks = torch.device("cuda"), TrainingChunks(scenes, seed=3, points=2000)
    of = [chunk_loader(chunks, ChunkBatches(len(chunks), 2, 3), 0, where) for where in (CPU, device)]
    for there, here in zip(ahead(of[1], device), of[0], strict=True):
        busy = torch.randn(4000, 4000, device=device)
        assert (busy @ busy).isfinite().all()
        for name in loader.ON_DEVICE:
            assert there[name].device.type == "cuda" and torch.equal(there[name].cpu(), here[name])
        assert there["scene"].device.type == "cpu"
