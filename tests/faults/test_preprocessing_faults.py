"""Preprocessing as real processes that are killed, stopped and run side by side: no torn file, and a rerun that equals
a run that nothing happened to, in every byte of every file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from data.scenes import read_scene

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "preprocess_scannet.py"
NAMES = [f"room-{number}" for number in range(12)]
KILLED_AT = """
import os, runpy, signal, sys
function, number, sys.argv = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
real, calls = getattr(os, function), []
def killed(*args, **kwargs):
    calls.append(args)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(os, function, killed)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Labelled clouds of 60,000 points, all for training."""
    folder = tmp_path_factory.mktemp("preprocessing")
    (folder / "lists").mkdir()
    (folder / "lists" / "train.txt").write_text("\n".join(NAMES))
    for seed, name in enumerate(NAMES):
        rng = np.random.default_rng(seed)
        fields = [*((axis, "f4") for axis in "xyz"), *((key, "u1") for key in ("red", "green", "blue", "label"))]
        vertex = np.zeros(60_000, fields)
        for axis in "xyz":
            vertex[axis] = rng.random(len(vertex))
        vertex["label"] = rng.integers(0, 41, len(vertex))
        (folder / "scans" / name).mkdir(parents=True)
        for kind in ("vh_clean_2.ply", "vh_clean_2.labels.ply"):
            PlyData([PlyElement.describe(vertex, "vertex")]).write(str(folder / "scans" / name / f"{name}_{kind}"))
    return folder


@pytest.fixture(scope="module")
def clean_run(scans):
    """File -> bytes of a run that nothing happens to."""
    assert start(scans, scans / "clean").wait(timeout=60) == 0
    files = contents(scans / "clean")
    assert len(files) == len(NAMES) + 1
    return files


def start(scans, out, *options, workers=1, interpreter=(sys.executable,)):
    command = [*interpreter, SCRIPT, "--scans", scans / "scans", "--splits", scans / "lists", "--out", out]
    return subprocess.Popen(
        list(map(str, [*command, "--workers", workers, *options])),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def wait_for(process, out, scenes):
    """Until so many scenes are there, and others are being made."""
    while len(list(out.glob("scenes/*.h5"))) < scenes or not (out / "scenes").exists():
        assert process.poll() is None, "it had ended already"
        time.sleep(0.0005)


def assert_nothing_torn(out):
    for path in out.glob("scenes/*.h5"):
        assert read_scene(path).name == path.stem
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("fsync", 3),  # the third scene is written, under its temporary name
        ("replace", 3),
        ("fsync", len(NAMES) + 1),  # the manifest
        *(
            pytest.param(function, number, marks=pytest.mark.slow)
            for function in ("fsync", "replace")
            for number in (1, 2, 7, len(NAMES))
        ),
        pytest.param("replace", len(NAMES) + 1, marks=pytest.mark.slow),
    ],
)
def test_kill_9_between_writing_and_renaming(scans, clean_run, tmp_path, function, number):
    call = 2 * number - 1 if function == "fsync" else number  # every second fsync is that of the folder
    process = start(scans, tmp_path, interpreter=(sys.executable, "-c", KILLED_AT, function, call))
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert_nothing_torn(tmp_path)
    left = contents(tmp_path)
    assert sum(name.endswith(".h5") for name in left) == number - 1
    assert sum(name.endswith(".tmp") for name in left) == 1
    assert start(scans, tmp_path).wait(timeout=60) == 0
    assert contents(tmp_path) == clean_run


@pytest.mark.parametrize("scenes", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 2, 3, 4, 5))])
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_in_the_middle_of_a_scene(scans, clean_run, tmp_path, workers, scenes):
    process = start(scans, tmp_path, workers=workers)
    wait_for(process, tmp_path, scenes)
    process.kill()
    process.communicate(timeout=10)  # until the workers, who hold the pipe too, have ended with it
    assert process.returncode == -signal.SIGKILL
    assert_nothing_torn(tmp_path)
    assert start(scans, tmp_path, workers=workers).wait(timeout=60) == 0
    assert contents(tmp_path) == clean_run


@pytest.mark.parametrize("to_group", [False, True], ids=["to the process", "to the group"])
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm(scans, clean_run, tmp_path, workers, to_group):
    process = start(scans, tmp_path, workers=workers)
    wait_for(process, tmp_path, 1)
    os.killpg(process.pid, signal.SIGTERM) if to_group else process.terminate()
    _, message = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in message
    assert_nothing_torn(tmp_path)
    if not to_group:  # where workers get it themselves, they end at once
        assert not list(tmp_path.rglob("*.tmp"))
    assert len(contents(tmp_path)) < len(clean_run)
    assert start(scans, tmp_path).wait(timeout=60) == 0
    assert contents(tmp_path) == clean_run


def test_shards_at_the_same_time(scans, clean_run, tmp_path):
    shards = [start(scans, tmp_path, "--shard", f"{index}/3") for index in range(3)]
    assert [shard.wait(timeout=60) for shard in shards] == [0, 0, 0]
    assert contents(tmp_path).keys() == clean_run.keys() - {"manifest.json"}
    assert start(scans, tmp_path).wait(timeout=60) == 0
    assert contents(tmp_path) == clean_run


def test_a_full_disk(scans, clean_run, tmp_path):
    """Each scene that does not fit costs a line; the run before it stays readable."""
    limited = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"  # bytes; a scene has a million
    limited += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    process = start(scans, tmp_path, interpreter=(sys.executable, "-c", limited))
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no scene was made" in message
    assert contents(tmp_path) == {}
    assert start(scans, tmp_path).wait(timeout=60) == 0
    assert contents(tmp_path) == clean_run
