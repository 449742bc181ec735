"""The training step, eager and replayed. No GPU is needed: a trace of the step's operators stands in for a CUDA graph.
It holds what that holds: the operators with their Python numbers baked in, in-place changes of the same tensors, random
numbers drawn anew."""

import argparse
import contextlib
import copy
import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launches import Launches
from step_of_ranks import assert_equal_steps, batch_of
from torch.fx.experimental.proxy_tensor import make_fx

import train_scannet
from models import pointnet2
from models.batch_norm import set_batch_norm_momentum
from ops import rows
from training.graph import Graph
from training.loop import Run, set_learning_rate
from training.step import Step
from training.stopping import StopRequest, TrainingError

CPU = torch.device("cpu")
NETWORKS = {
    "none": {},
    "non_local": {"context": "non_local"},
    "latentgnn": {"context": "latentgnn"},
    "msg": {"grouping": "msg"},
    "modern": {"context": "latentgnn", "kernels": 3, "extra_channels": 1},
}
PAPER = argparse.Namespace(optimiser="adam", clip=0.0, accumulate=1, label_smoothing=0.0, amp="none")
MODERN = argparse.Namespace(optimiser="adamw", clip=0.5, accumulate=2, label_smoothing=0.1, amp="none")


class Trace(Graph):
    """A Graph of the CPU. live() are the tensors that its function changes: tracing runs it, capturing does not."""

    def __init__(self, function, live):
        super().__init__(function, CPU)
        self.live, self.captures, self.replays = live, 0, 0

    def warm_up(self):
        return self.function(*self.inputs)

    def capture(self):
        self.captures += 1
        before, random = [t.detach().clone() for t in self.live()], torch.get_rng_state()
        traced = make_fx(lambda *batches: self.function(*batches), _allow_non_fake_inputs=True)(*self.inputs)
        with torch.no_grad():
            for tensor, value in zip(self.live(), before, strict=True):
                tensor.copy_(value)
        torch.set_rng_state(random)

        def replay():
            self.replays += 1
            with torch.no_grad():  # the trace holds the backward pass, too
                self.output = traced(*self.inputs)

        return replay, None


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Few centres, and the form of the network that a GPU gets."""
    monkeypatch.setattr(pointnet2, "CENTRES", (16, 8, 4, 4))
    monkeypatch.setattr(rows, "ready", lambda tensor: False)


def make_step(model, args=PAPER, device=CPU, run_as=None, **options):
    """With the Adam of a GPU, as far as the CPU has it: fused, and with its rate in a tensor."""
    optimizer = train_scannet.OPTIMISERS[args.optimiser](model.parameters(), lr=torch.tensor(1e-3), **options)
    loss_of = functools.partial(train_scannet.chunk_loss, model, device, args)
    return Step(model, optimizer, loss_of, args.accumulate, args.clip, **({"run_as": run_as} if run_as else {}))


def state_of(step, model):
    moments = [value for p in step.weights for value in step.optimizer.state[p].values()]
    return [*model.parameters(), *model.buffers(), *moments, step.mean]


def take(step, model, number, momentum=0.5):
    """The step of that number, by a rate and a seed of its own."""
    set_learning_rate(step.optimizer, 1e-3 / (1 + number))
    set_batch_norm_momentum(model, momentum)
    torch.manual_seed(number)
    channels = 3 + model.config.extra_channels
    parts = [batch_of(10 * number + part, channels=channels) for part in range(step.accumulate)]
    return step(parts, StopRequest(), momentum)


def pair(network, args):
    """An eager step, and one that is replayed, of equal networks."""
    eager = pointnet2.build(pointnet2.PointNet2Config(21, **NETWORKS[network]), 0).train()
    traced, made = copy.deepcopy(eager), []
    replayed = make_step(
        traced,
        args,
        run_as=lambda f: made.append(Trace(f, lambda: state_of(replayed, traced))) or made[-1],
        fused=True,
    )
    return (make_step(eager, args, fused=True), eager), (replayed, traced), made


@pytest.mark.parametrize(("network", "args"), [*((n, PAPER) for n in NETWORKS if n != "modern"), ("modern", MODERN)])
def test_a_replayed_step_equals_an_eager_one_to_the_bit(network, args, as_on_a_gpu):
    eager, replayed, made = pair(network, args)
    for number in range(4):
        momentum = 0.5 if number < 3 or network != "none" else 0.25
        assert take(*eager, number, momentum) == take(*replayed, number, momentum)
        assert all(map(torch.equal, state_of(*eager), state_of(*replayed)))
    assert [graph.captures for graph in made] == [2 if network == "none" else 1, 1]  # one for each momentum
    assert [graph.replays for graph in made] == [4 * args.accumulate - 1, 3]


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_is_not_finite_changes_neither_weights_nor_adam(fused, as_on_a_gpu):
    model = pointnet2.build(pointnet2.PointNet2Config(21), 0).train()
    step = make_step(model, fused=fused, foreach=False)
    assert take(step, model, 0).is_finite and all(loss.isfinite() for loss in step.own_losses)
    before = [t.detach().clone() for t in [*model.parameters(), *state_of(step, model)[-4:-1]]]
    batch = batch_of(1)
    batch["weight"][0, 0] = torch.inf
    done = step([batch], StopRequest())
    assert not done.is_finite and not all(loss.isfinite() for loss in step.own_losses)
    assert all(map(torch.equal, before, [*model.parameters(), *state_of(step, model)[-4:-1]]))


@pytest.mark.parametrize(
    ("context", "most"), [("none", 350), ("non_local", 450), ("latentgnn", 800)], ids=lambda value: str(value)
)
def test_a_step_starts_few_kernels_and_waits_for_nothing(context, most, monkeypatch):
    """B = 16, all of it: forward and backward on meta tensors, the update with a fused Adam on the CPU."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())  # meta has none
    config, rate = pointnet2.PointNet2Config(21, context=context), torch.tensor(1e-3)
    with torch.device("meta"):
        model = pointnet2.PointNet2(config).train()
        batch = {"points": torch.rand(16, 8192, 3), "classes": torch.zeros(16, 8192, dtype=torch.int64)}
        batch["weight"] = torch.ones(16, 8192)
        step = Step(model, torch.optim.SGD(model.parameters()), lambda b: loss_of(model, b), run_as=half(0))
        with Launches() as launches:
            step.queue([batch], StopRequest())
    model = pointnet2.PointNet2(config)
    step = Step(model, torch.optim.Adam(model.parameters(), lr=rate, fused=True), None, run_as=half(1))
    step.queue([], StopRequest())  # makes Adam's moments
    with Launches() as update:
        step.queue([], StopRequest())
    assert most - 60 < launches.count + update.count <= most


def loss_of(model, batch):
    return train_scannet.chunk_loss(model, torch.device("meta"), PAPER, batch)


def half(wanted):
    """run_as for one half of the step, 0 or 1; the other does nothing."""
    numbers = iter(range(2))
    return lambda f: (lambda key, *batches: f(*batches)) if next(numbers) == wanted else (lambda key, *batches: None)


@pytest.mark.parametrize("old", [{"fused": None, "capturable": False, "foreach": None}, {"fused": True}], ids=str)
def test_an_optimizer_of_another_device_goes_on(old):
    """A checkpoint's options of how to compute give way to this run's, and its state is where these want it."""
    model = torch.nn.Linear(2, 3)
    saved = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.5) if old["fused"] else 0.5, fused=old["fused"])
    model(torch.ones(1, 2)).sum().backward()
    saved.step()
    state = {"optimizer": saved.state_dict(), "model": model.state_dict()}
    state |= {"step": 1, "epoch": 0, "losses": [], "best_voxel_accuracy": 0.0}
    state["optimizer"]["param_groups"][0] |= {name: value for name, value in old.items() if name != "fused"}
    for fused in (None, True):
        rate = torch.tensor(1e-3) if fused else 1e-3
        run = Run(model, torch.optim.Adam(model.parameters(), lr=rate, fused=fused), {}, {})
        run.resume(copy.deepcopy(state))
        (group,) = run.optimizer.param_groups
        assert group["fused"] == fused and group["lr"] == rate
        set_learning_rate(run.optimizer, 0.25)
        assert group["lr"] == 0.25 and isinstance(group["lr"], torch.Tensor) == bool(fused)
        run.optimizer.step()
        assert run.optimizer.state[model.weight]["step"] == 2


def test_a_failed_capture_says_what_broke_it(monkeypatch):
    """Not what torch's end of a broken capture raises after it."""

    @contextlib.contextmanager
    def capturing(*args, **kwargs):
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    def function():
        raise RuntimeError("no copy from the host here")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    graph = Graph(function, CPU)
    graph.inputs = []
    with pytest.raises(TrainingError, match=r"captured \(no copy from the host here\); --no-graph"):
        graph(None)


def test_two_ranks_equal_distributed_data_parallel():
    script = Path(__file__).with_name("step_of_ranks.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    ended = subprocess.run(torchrun, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr


def test_one_rank_equals_plain_torch():
    assert_equal_steps()
