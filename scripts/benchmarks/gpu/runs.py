"""What is around the training step: whole scenes, the loader, several GPUs, and how long the paper's schedule takes."""

import dataclasses
import functools
import itertools
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.datasets import ChunkBatches, SampleKey, TrainingChunks, WholeScenes
from data.labels import SCANNET20
from models import pointnet2
from scripts.benchmarks.gpu.setting import MOST_WORKERS, OUT_OF_MEMORY, SEED, Setting, cores
from scripts.benchmarks.gpu.steps import MOMENTUM, batch_on_device, chunks_of, training
from scripts.benchmarks.step import NETWORKS
from training import ranks
from training.arguments import choose_device
from training.inference import evaluate
from training.loader import ahead, chunk_loader, share_cache
from training.loop import steps
from training.stopping import StopRequest

NETWORK = "LatentGNN K = 1"
DEFAULT_WORKERS = 2  # of train_scannet.py
EVALUATIONS = 3  # rounds
PAPER_EPOCHS, PAPER_SCENES, PAPER_BATCH = 200, 1201, 64
PAPER_CHUNKS = PAPER_EPOCHS * (PAPER_SCENES // PAPER_BATCH) * PAPER_BATCH  # an epoch's last batch is left out
WARM_UP = 4  # steps that are not counted: the graph is captured in them
CPU_PROCESSES = 2  # that stand in for GPUs
RANKS_WAIT = 1.0  # s between two looks at the clock


def evaluation(setting: Setting) -> dict:
    config = pointnet2.PointNet2Config(SCANNET20.num_classes, **NETWORKS[NETWORK])
    model, scene = pointnet2.build(config, SEED).to(setting.device), setting.scenes[0]

    def measure(vertices: int) -> dict:
        score = functools.partial(evaluate, model, WholeScenes([scene], SEED), setting.device)
        return {"seconds": setting.take_turns({"scene": score}, min(EVALUATIONS, setting.rounds))["scene"]}

    return {"network": NETWORK, "rows": setting.rows("evaluation", [{"vertices": scene.vertices}], measure)}


def loader(setting: Setting) -> dict:
    size, cached = setting.sizes.fed, chunks_of(setting)
    notes = fill_cache(cached)
    kinds = {"plain": chunks_of(setting), "cached": cached}

    def measure(workers: int, kind: str) -> dict:
        return {"chunks_per_second": chunks_per_second(setting, kinds[kind], size, workers)}

    numbers = sorted({DEFAULT_WORKERS, all_workers()})
    keys = [dict(workers=workers, kind=kind) for workers in numbers for kind in kinds]
    trained, batch = training(setting, NETWORK), batch_on_device(setting, size)
    rows = setting.rows("loader", keys, measure)
    step = functools.partial(trained, batch)
    setting.first_calls(step)
    about = dict(batch=size, cores=cores(), scenes=len(cached), captured=trained.says[0], notes=notes)
    return about | {"rows": rows, "step_seconds": setting.take_turns({"step": step})["step"]}


def all_workers() -> int:
    """As many as there are cores beside the step's."""
    return min(max(cores() - 1, 1), MOST_WORKERS)


def fill_cache(chunks: TrainingChunks) -> list[str]:
    """Gives the chunks a cache that has all their scenes. If it cannot be had, why not."""
    notes = share_cache(chunks, "auto")
    for scene in range(len(chunks) if chunks.cache else 0):
        chunks[0, 0, scene]
    return [] if chunks.cache else notes


class Unending:
    """Epoch after epoch of batches, as one long epoch: few scenes then do as many."""

    def __init__(self, batches: ChunkBatches):
        self.batches = batches

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for epoch in itertools.count(1):
            self.batches.set_epoch(epoch)
            yield from self.batches


def loader_of(setting: Setting, chunks: TrainingChunks, batch_size: int, workers: int) -> DataLoader:
    batches = Unending(ChunkBatches(len(chunks), batch_size, SEED))
    return chunk_loader(chunks, batches, workers, setting.device)


def chunks_per_second(setting: Setting, chunks: TrainingChunks, batch_size: int, workers: int) -> float:
    """After those batches that were made while the workers started."""
    batches = iter(loader_of(setting, chunks, batch_size, workers))
    for _ in range(3 * workers):  # each prefetches two, and is at work on another
        next(batches)
    start, taken = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < setting.sizes.seconds:
        next(batches)
        taken += batch_size
    return taken / seconds


def several(setting: Setting) -> dict:
    gpus = torch.cuda.device_count()
    most = gpus if setting.on_gpu else CPU_PROCESSES
    if most < 2:
        return {"gpus": gpus, "rows": []}

    def measure(ranks: int) -> dict:
        return {"chunks_per_second": rate_of_ranks(setting, ranks)}

    numbers = sorted({2**k for k in range(most.bit_length())} | {most})
    rows = setting.rows("several", [{"ranks": number} for number in numbers], measure)
    return {"gpus": gpus, "batch": setting.sizes.fed, "rows": rows}


def rate_of_ranks(setting: Setting, number: int) -> float:
    """Chunks a second of so many processes, each with a GPU of its own. Raises TimeoutError at the part's end."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port, told = free.getsockname()[1], Path(folder) / "rate.json"
        free.close()
        group = torch.multiprocessing.spawn(one_rank, (number, port, setting, told), number, join=False)
        try:
            while not group.join(RANKS_WAIT):
                if time.monotonic() > setting.ends:
                    raise TimeoutError(f"{number} processes were not done when the part's time was over")
        finally:
            for process in group.processes:
                process.kill()
        return json.loads(told.read_text())


def one_rank(rank: int, number: int, port: int, setting: Setting, told: Path) -> None:
    """A process of `number`; rank 0 writes their chunks a second."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with ranks.process_group():
        setting = dataclasses.replace(setting, device=choose_device(setting.device.type))  # the rank's own
        trained = training(setting, NETWORK)
        ranks.copy_weights_of_rank_0(trained.run.model)
        batch = batch_on_device(setting, setting.sizes.fed, rank * setting.sizes.fed)
        setting.first_calls(functools.partial(trained, batch))
        start = time.perf_counter()
        for _ in range(setting.sizes.steps):  # each waits for all ranks
            trained(batch)
        if rank == 0:
            chunks = number * setting.sizes.fed * setting.sizes.steps
            told.write_text(json.dumps(chunks / (time.perf_counter() - start)))


def schedule(setting: Setting) -> dict:
    chunks, size = chunks_of(setting), setting.sizes.schedule_batch
    notes, rows = fill_cache(chunks), []
    while size and (not rows or rows[-1].get("error") == OUT_OF_MEMORY):
        rows += setting.rows("schedule", [{"batch": size}], functools.partial(train, setting, chunks))
        size //= 2
    about = dict(network=NETWORK, chunks=PAPER_CHUNKS, workers=all_workers(), notes=notes)
    return about | {"rows": rows}


def train(setting: Setting, chunks: TrainingChunks, batch: int) -> dict:
    """Steps of so many chunks in training's own loop, with its loader, as many as there is time for."""
    trained = training(setting, NETWORK)
    batches = ahead(loader_of(setting, chunks, batch, all_workers()), setting.device)
    loop = steps(trained.run, trained.step, batches, lambda step: MOMENTUM, chunks.names_of, StopRequest())
    for _ in itertools.islice(loop, WARM_UP):
        pass
    start, done = time.perf_counter(), 0
    with tqdm(total=setting.sizes.schedule_steps, desc="schedule", unit="step", leave=False, disable=None) as bar:
        while done < setting.sizes.schedule_steps and (not done or time.monotonic() < setting.ends):
            next(loop)
            done += 1
            bar.update()
    rate = done * batch / (time.perf_counter() - start)
    return {"steps": done, "captured": trained.says[0], "chunks_per_second": rate, "hours": PAPER_CHUNKS / rate / 3600}
