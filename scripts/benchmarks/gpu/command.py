"""Everything about a GPU in one command: JSON and Markdown, part by part; some 5 minutes on an H100, by estimate.

    python scripts/benchmark.py gpu --out runs/gpu_benchmark

A part that the JSON in --out has is not run again; one that was interrupted or failed is. Each part runs in a process
of its own, in which an error of the GPU ends, and has a time of its own: what does not fit into it is left out, and the
tables say so. Scenes of 150,000 vertices are generated in a temporary folder on the disk that TMPDIR names, 115 MB.
--small takes sizes that mean nothing, to try all parts; it runs on the CPU, too, with eager steps for captured ones.
"""

import dataclasses
import json
import math
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

import ops
from data.atomic_write import replacing
from scripts.benchmarks.gpu import tables
from scripts.benchmarks.gpu.setting import SMALL, Setting, Sizes, cores
from scripts.benchmarks.loader import make_scenes
from training.arguments import choose_device, round_to_tf32

JSON, MARKDOWN = "gpu.json", "gpu.md"  # in --out


class Part(NamedTuple):
    seconds: int  # its time; what is begun is ended
    reads_scenes: bool
    does: str


PARTS = {  # estimates for an H100, so chosen that all of them and what is around them stay below 8 minutes
    "operators": Part(30, False, "the point operators beside the plain reference"),
    "equality": Part(25, True, "the captured step beside the eager one, to the bit"),
    "steps": Part(120, True, "training steps of four networks: eager, captured, textbook"),
    "layer": Part(50, False, "one layer against the number of points, in both forms of batch norm"),
    "evaluation": Part(20, True, "a whole scene"),
    "loader": Part(40, True, "the loader beside the captured step"),
    "several": Part(50, True, "the captured step on several GPUs"),
    "schedule": Part(40, True, "training fed by the loader, for the time of the paper's schedule"),
}
GRACE = 60  # s that a part may take beyond its time: for its start, and for what it had begun
SAME = ("device", "gpus", "cores", "torch", "cuda", "rounds", "threads", "small")  # in a folder that is gone on with


def add_arguments(parser) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_benchmark"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="sizes that mean nothing, to try the command")


def run(args) -> dict:
    device, sizes = device_of(args), SMALL if args.small else Sizes()
    content = read(args.out, about(args, device))
    wanted = [name for name in args.parts if name not in content["parts"]]
    if done := [name for name in args.parts if name not in wanted]:
        print(f"done before, in {args.out / JSON}: {', '.join(done)}")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"benchmark gpu: --out {args.out} cannot be a folder ({error.strerror}): give another")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        needs = any(PARTS[name].reads_scenes for name in wanted)
        scenes = make_scenes(Path(folder), sizes.scenes, sizes.vertices) if needs else []
        setting = Setting(device, sizes, args.rounds, scenes)
        for number, name in enumerate(wanted, 1):
            print(f"{number} of {len(wanted)}, {name}: {PARTS[name].does}, {time_of(name, setting)}", flush=True)
            start = time.monotonic()
            try:
                result = in_a_fresh_process(name, setting, Path(folder) / f"{name}.json")
            except PartError as error:
                failed.append(name)
                print(f"  failed: {error}", flush=True)
                continue
            except KeyboardInterrupt:
                print(f"interrupted in {name}; the same command goes on there", file=sys.stderr)
                sys.exit(130)
            content["parts"][name] = {"seconds": time.monotonic() - start} | result
            write(args.out, content)
            print(f"  {content['parts'][name]['seconds']:.0f} s", flush=True)
    write(args.out, content)
    print(f"\n{tables.markdown(content)}\n{args.out / JSON}, {args.out / MARKDOWN}")
    if failed:
        sys.exit(f"benchmark gpu: not done: {', '.join(failed)}; the same command tries them again")
    return content


def device_of(args) -> torch.device:
    device = choose_device(args.device)
    if device.type != "cuda" and (args.device == "auto" or not args.small):
        where = "torch finds no GPU" if args.device == "auto" else f"--device {args.device} is no GPU"
        sys.exit(f"benchmark gpu: {where}; --device cpu --small tries every part on the CPU")
    return device


def time_of(name: str, setting: Setting) -> str:
    return f"at most some {PARTS[name].seconds} s" if setting.on_gpu else "however long it takes"


def about(args, device: torch.device) -> dict:
    """The machine, and what was asked for."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    machine = dict(device=name, gpus=gpus, cores=cores(), torch=torch.__version__, cuda=torch.version.cuda)
    return machine | dict(rounds=args.rounds, threads=args.threads, small=args.small, ops=ops.describe())


def read(folder: Path, now: dict) -> dict:
    """What the folder has, to be gone on with; exits if that is broken, or of another machine or other flags."""
    path = folder / JSON
    if not path.exists():
        return now | {"parts": {}}
    try:
        content = json.loads(path.read_text())
        tables.markdown(content)
    except (ValueError, TypeError, LookupError, AttributeError, StopIteration) as error:
        why = f"{type(error).__name__}: {error}"
        sys.exit(f"benchmark gpu: {path} is broken ({why}): delete it, or give another --out")
    differing = [f"{key} was {content.get(key)}, is {now[key]}" for key in SAME if content.get(key) != now[key]]
    if differing:
        sys.exit(f"benchmark gpu: {path} is of another run ({'; '.join(differing)}): give another --out")
    return content


def write(folder: Path, content: dict) -> None:
    for name, text in ((JSON, json.dumps(content, indent=1) + "\n"), (MARKDOWN, tables.markdown(content))):
        with replacing(folder / name) as temporary:
            temporary.write_text(text)


class PartError(Exception):
    """The message says why a part has no result."""


def in_a_fresh_process(name: str, setting: Setting, told: Path) -> dict:
    """What a part returns. Raises PartError if it fails or hangs."""
    process = multiprocessing.get_context("spawn").Process(target=tell, args=(name, setting, told))
    process.start()
    limit = PARTS[name].seconds + GRACE if setting.on_gpu else None
    try:
        process.join(limit)
        if process.exitcode is None:
            raise PartError(f"it was not done after {limit} s, and was ended")
    finally:
        process.kill()
    if process.exitcode or not told.exists():
        raise PartError(f"its process ended with status {process.exitcode}; what it said stands above")
    return json.loads(told.read_text())


def tell(name: str, setting: Setting, told: Path) -> None:
    told.write_text(json.dumps(result_of(name, setting)))


def result_of(name: str, setting: Setting) -> dict:
    """What a part returns, in this process, from where on its time is counted."""
    from scripts.benchmarks.gpu import kernels, runs, steps  # here: they would count in the memory of other subjects

    functions = (kernels.operators, steps.equality, steps.steps, kernels.layer)
    functions += (runs.evaluation, runs.loader, runs.several, runs.schedule)
    (function,) = [function for function in functions if function.__name__ == name]
    round_to_tf32(False)
    seconds = PARTS[name].seconds if setting.on_gpu else math.inf
    return function(dataclasses.replace(setting, ends=time.monotonic() + seconds))
