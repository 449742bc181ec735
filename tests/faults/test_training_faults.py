"""Training as real processes that are killed, stopped, starved and lied to. Promised is that nothing but the work since
the last checkpoint is lost: the same command with --resume auto ends in the same losses, to the last bit."""

import json
import re
import shutil
import signal
import time

import pytest
import torch
from processes import KILLED, NO_FAULT, finish, start

import train_scannet
from data.datasets import ChunkBatches
from training import checkpoint

EPOCHS, STEPS_AN_EPOCH = 3, 3
STOPPED = 128 + signal.SIGTERM

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def scenes(rooms):
    """6 training and 2 validation scenes: 3 steps an epoch."""
    return rooms(train=6, val=2)


@pytest.fixture(scope="module")
def uninterrupted(scenes, tmp_path_factory):
    """ranks -> the folder of a run that nothing happens to, made at the first call. Rank 1 may write nothing there."""
    folders = {}

    def of_ranks(ranks):
        if ranks not in folders:
            folders[ranks] = tmp_path_factory.mktemp("uninterrupted") / f"{ranks}_ranks"
            ended = train(scenes, folders[ranks], f"if RANK > 0: forbid_writing_in('{folders[ranks].parent}')", ranks)
            assert ended.returncode == 0, ended.stderr
        return folders[ranks]

    return of_ranks


def train(data, out, fault=NO_FAULT, ranks=1, workers=0, flags=()):
    return finish(start_training(data, out, fault, ranks, workers, flags))


def start_training(data, out, fault=NO_FAULT, ranks=1, workers=0, flags=()):
    settings = ["--epochs", EPOCHS, "--batch-size", 2, "--bn-momentum", 0.1, "--validate-every", 2]
    files = ["--data", data, "--out", out, "--resume", "auto"]
    return start("train_scannet", fault, ranks, *files, *settings, "--workers", workers, *flags)


def entries(out, part):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "points_per_second"} for line in lines if line["part"] == part]


def last(out):
    return checkpoint.read(out / "checkpoints" / "last.pt")


def assert_equal_runs(out, expected):
    steps = [entry["step"] for entry in entries(out, "step")]
    assert steps == list(range(1, EPOCHS * STEPS_AN_EPOCH + 1))
    for part in ("step", "train", "val"):
        assert entries(out, part) == entries(expected, part)
    for name in ("last.pt", "best.pt"):
        ours, theirs = (checkpoint.read(folder / "checkpoints" / name) for folder in (out, expected))
        assert all(torch.equal(ours["model"][key], value) for key, value in theirs["model"].items())
        for entry in ("epoch", "step", "best_voxel_accuracy"):
            assert ours[entry] == theirs[entry]
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("ranks", "workers"), [(1, 2), *(pytest.param(*case, marks=slow) for case in [(1, 0), (2, 0), (2, 2)])]
)
def test_killed_in_an_epoch_then_stopped_in_another_then_left_alone(scenes, uninterrupted, tmp_path, ranks, workers):
    ended = train(
        scenes, tmp_path, f"if RANK == {ranks - 1}: in_step(5, kill_9)", ranks, workers
    )  # one epoch was saved
    assert ended.returncode == (KILLED if ranks == 1 else 1)
    assert (last(tmp_path)["epoch"], last(tmp_path)["step"]) == (1, 3)
    assert len(entries(tmp_path, "step")) == 4  # the fourth is of after the checkpoint

    # Its loader processes get the signal too, and torchrun, which hands it on once more
    ended = train(scenes, tmp_path, "if RANK == 0: in_step(4, sigterm_to_the_group)", ranks, workers)
    assert ended.returncode == (STOPPED if ranks == 1 else 1), ended.stderr
    assert "stopped after step 7" in ended.stdout
    assert (last(tmp_path)["epoch"], last(tmp_path)["step"]) == (2, 7)

    ended = train(scenes, tmp_path, NO_FAULT, ranks, workers, ["--cache", "none"])
    assert ended.returncode == 0, ended.stderr
    assert "going on after 2 epochs and 1 steps" in ended.stdout
    assert_equal_runs(tmp_path, uninterrupted(ranks))


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 3, 9])  # the first, the last of an epoch, the last of the run
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stop_in_any_step(scenes, uninterrupted, tmp_path, number, step, ranks):
    whom = "os.getpid()" if ranks == 1 else "os.getppid()"  # torchrun
    fault = f"if RANK == 0: in_step({step}, lambda: os.kill({whom}, {int(number)}))"
    ended = train(scenes, tmp_path, fault, ranks)
    assert ended.returncode == (128 + number if ranks == 1 else 1), ended.stderr
    assert ended.stdout.count("stopped after step") == 1
    assert last(tmp_path)["step"] >= step  # under torchrun the signal takes a while
    assert train(scenes, tmp_path, ranks=ranks).returncode == 0
    assert_equal_runs(tmp_path, uninterrupted(ranks))


def test_one_rank_told_to_stop_stops_both(scenes, tmp_path):
    ended = train(scenes, tmp_path, "if RANK == 1: in_step(4, sigterm)", ranks=2)
    assert ended.returncode == 1  # torchrun's, of whose processes each ended with 143
    assert ended.stdout.count("stopped after step 4") == 1
    assert (last(tmp_path)["epoch"], last(tmp_path)["step"]) == (1, 4)


@slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("validation", [1, 2])  # before training; after epoch 2
@pytest.mark.parametrize("act", ["sigterm", "sigterm_to_the_group", "kill_9"])
def test_validation_interrupted(scenes, uninterrupted, tmp_path, act, validation, ranks):
    scene = 1 + (validation - 1) * 2 // ranks  # the first of rank 0, which scores the 2 scenes or shares them
    fault = f"if RANK == 0: after_scene({scene}, {act})"
    ended = train(scenes, tmp_path, fault, ranks, workers=2)
    assert ended.returncode == (1 if ranks > 1 else KILLED if act == "kill_9" else STOPPED), ended.stderr
    if validation == 1:
        assert not (tmp_path / "checkpoints" / "last.pt").exists()
    else:
        assert (last(tmp_path)["epoch"], last(tmp_path)["step"]) == ((1, 3) if act == "kill_9" else (1, 6))
    assert train(scenes, tmp_path, ranks=ranks).returncode == 0
    assert_equal_runs(tmp_path, uninterrupted(ranks))


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        pytest.param("write_half_of_last_and_die(2)", ["last.pt", "last.pt.tmp"], marks=slow),
        pytest.param("at_replace(1, 'previous.pt', kill_9)", ["last.pt", "last.pt.tmp"], marks=slow),
        ("at_replace(2, 'last.pt', kill_9)", ["last.pt.tmp", "previous.pt"]),
    ],
    ids=["half written", "written", "the earlier one renamed"],
)
def test_killed_inside_a_checkpoint_write(scenes, uninterrupted, tmp_path, fault, left):
    assert train(scenes, tmp_path, fault).returncode == KILLED
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name != "best.pt")
    assert names == left
    assert checkpoint.read_newest(tmp_path / "checkpoints")[1]["epoch"] == 1
    ended = train(scenes, tmp_path)
    assert "going on after 1 epochs and 0 steps" in ended.stdout
    assert_equal_runs(tmp_path, uninterrupted(1))


@slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "where", ["in_step(5, ", "in_step(1, ", "before(train_scannet, 'choose_device', lambda *args: "]
)
def test_one_rank_dies(scenes, uninterrupted, tmp_path, rank, where):
    """That the job then fails within FAILS_WITHIN seconds is in train()."""
    ended = train(
        scenes, tmp_path, f"if RANK == {rank}: {where}" + ("kill_9())" if "lambda" in where else "kill_9)"), ranks=2
    )
    assert ended.returncode == 1
    assert train(scenes, tmp_path, ranks=2).returncode == 0
    assert_equal_runs(tmp_path, uninterrupted(2))


@slow
@pytest.mark.parametrize(
    ("size", "file"), [(2**20, "checkpoints/best.pt"), (1000, "metrics.jsonl")], ids=["checkpoint", "metrics"]
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_disk_full(scenes, uninterrupted, tmp_path, ranks, size, file):
    ended = train(scenes, tmp_path, f"in_step(5, limit_files({size}))", ranks)
    assert ended.returncode == 1
    assert ended.stderr.count(f"error: {tmp_path / file}: cannot be written (File too large)") == 1
    assert last(tmp_path)["epoch"] == 1
    assert train(scenes, tmp_path, ranks=ranks).returncode == 0
    assert_equal_runs(tmp_path, uninterrupted(ranks))


class Payload:
    def __reduce__(self):
        return (open, ("executed", "w"))


def flip_a_bit_of_the_weights(path):
    state, content = checkpoint.read(path), bytearray(path.read_bytes())
    content[content.index(state["model"]["classifier.weight"].numpy().tobytes())] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit_of_the_weights,
        *(
            pytest.param(act, marks=slow, id=name)
            for name, act in [
                ("empty", lambda path: path.write_bytes(b"")),
                ("truncated", lambda path: path.write_bytes(path.read_bytes()[:-1])),
                ("malicious", lambda path: torch.save({"format_version": 1, "model": Payload()}, path)),
                ("missing", lambda path: path.unlink()),
            ]
        ),
    ],
)
def test_a_broken_checkpoint_is_named_and_the_one_before_it_is_used(scenes, uninterrupted, tmp_path, damage):
    out = shutil.copytree(uninterrupted(1), tmp_path / "run")
    damage(out / "checkpoints" / "last.pt")
    ended = train(scenes, out, "os.chdir(sys.argv[sys.argv.index('--out') + 1])")
    assert ended.returncode == 0, ended.stderr
    assert f"{out}/checkpoints/last.pt" in ended.stdout and "previous.pt is used" in ended.stdout
    assert "going on after 2 epochs and 0 steps" in ended.stdout
    assert_equal_runs(out, uninterrupted(1))
    assert not list(tmp_path.rglob("executed"))


def test_checkpoints_hold_tensors_numbers_and_strings_alone(uninterrupted):
    def kinds(value):
        if isinstance(value, dict):
            return set().union(*map(kinds, value.keys()), *map(kinds, value.values()))
        return set().union(*map(kinds, value)) if isinstance(value, list | tuple) else {type(value)}

    for path in (uninterrupted(1) / "checkpoints").iterdir():
        content = torch.load(path, weights_only=True)
        assert kinds(content) <= {torch.Tensor, str, int, float, bool, type(None)}


@slow
def test_another_number_of_ranks_is_refused(scenes, uninterrupted):
    ended = train(scenes, uninterrupted(1), ranks=2)
    assert ended.returncode == 1
    assert ended.stderr.count("world_size was 1, is 2") == 1


@slow
def test_a_batch_that_ranks_cannot_share_is_refused(scenes, tmp_path):
    ended = train(scenes, tmp_path / "x", ranks=2, flags=["--batch-size", 3])
    assert ended.returncode == 1
    assert ended.stderr.count("--batch-size 3 is of all 2 ranks together: use a multiple") == 1
    assert not (tmp_path / "x").exists()


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(scenes, tmp_path):
    ended = train(scenes, tmp_path, "if RANK == 1: nan_in_step(4)", ranks=2)
    assert ended.returncode == 1
    epoch_2 = ChunkBatches(6, 2, seed=0, rank=1, world_size=2)
    epoch_2.set_epoch(2)
    ((_, _, scene),) = next(iter(epoch_2))
    message = r"error: loss nan, gradient norm nan in epoch 2, step 4, with scene (.*)\. Nothing after"
    assert re.findall(message, ended.stderr) == [f"room{scene}_00"]
    assert last(tmp_path)["epoch"] == 1


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=slow)])
def test_a_damaged_scene(scenes, tmp_path, ranks):
    """One line names it, and the loader processes, which ignore signals, do not keep the job from ending."""
    damaged = shutil.copytree(scenes, tmp_path / "data")
    (damaged / "scenes" / "room4_00.h5").write_bytes(b"damaged")
    ended = train(damaged, tmp_path / "out", ranks=ranks, workers=2)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "room4_00.h5" in line


@slow
def test_validation_that_ranks_share_scores_as_one_rank_does(uninterrupted):
    alone, shared = (entries(uninterrupted(ranks), "val")[0] for ranks in (1, 2))  # of the same weights, untrained
    assert shared == alone and "voxel_accuracy" in alone


@slow
@pytest.mark.parametrize("flags", [[], ["--sync-bn"]], ids=["statistics of each", "of all"])
def test_ranks_evaluate_the_network_that_is_saved(scenes, tmp_path, flags):
    """Batch norm's running statistics included."""
    ended = train(scenes, tmp_path, "say_what_is_evaluated()", ranks=2, flags=flags)
    assert ended.returncode == 0, ended.stderr
    evaluated = re.findall(r"evaluates (\w{64})", ended.stdout)  # two ranks may write on one line
    assert sorted(map(evaluated.count, set(evaluated))) == [2, 2, 2]  # before training, after epochs 2 and 3
    model = checkpoint.load(tmp_path / "checkpoints" / "last.pt")
    assert evaluated[-2:] == 2 * [checkpoint.weights_sha256(model)]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=slow)])
def test_two_runs_in_one_folder(scenes, tmp_path, workers, capsys):
    first = start_training(scenes, tmp_path, "in_step(2, sleep)", workers=workers)
    try:
        while not (tmp_path / "metrics.jsonl").exists() or not entries(tmp_path, "step"):
            assert first.poll() is None
            time.sleep(0.05)
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for flags in (["--resume", "auto"], []):
            assert train_scannet.main(["--data", str(scenes), "--out", str(tmp_path), *flags, "--device", "cpu"]) == 1
        message = capsys.readouterr().err
        assert f"{tmp_path}: process {first.pid} on " in message and "trains there" in message
        assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    finally:
        first.kill()
    first.wait()
    if workers:  # which live on for a few seconds, and do not hold the lock
        assert train(scenes, tmp_path, "in_step(1, lambda: sys.exit(3))").returncode == 3
    first.communicate()


@slow
def test_a_dead_tensorboard_does_not_end_the_training(scenes, uninterrupted, tmp_path):
    dead = "from tensorboard.summary.writer.record_writer import RecordWriter\n"
    dead += "def fail(*args): raise OSError(28, 'No space left on device')\n"
    dead += "before(RecordWriter, 'write', fail, nth(10))"
    ended = train(scenes, tmp_path, dead)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "log.txt").read_text().count("nothing more is written for TensorBoard") == 1
    assert_equal_runs(tmp_path, uninterrupted(1))
