"""The training step: eager, captured and in the textbook form, and whether the first two compute the same."""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

import train_scannet
from data.datasets import TrainingChunks
from data.labels import SCANNET20
from models import pointnet2
from scripts.benchmarks.gpu.setting import SEED, Setting
from scripts.benchmarks.step import NETWORKS, textbook_form, training_batch, with_context
from training.arguments import round_to_tf32
from training.loop import Run
from training.step import Step
from training.stopping import StopRequest

EAGER, AGAIN, CAPTURED, TEXTBOOK = "eager", "eager again", "captured", "textbook"
FORMS = {"float32": (EAGER, CAPTURED, TEXTBOOK), "TF32": (EAGER, CAPTURED), "bf16": (EAGER, CAPTURED)}
COMPARED = ("no context", "LatentGNN K = 1")
MOMENTUM = 0.5  # of batch norm, at the start of the paper's schedule


class Training(NamedTuple):
    """A network in training, as train_scannet.py makes it."""

    run: Run
    step: Step
    says: list[str]  # how the step runs, and what else the log would have

    def __call__(self, batch: dict[str, Tensor]):
        return self.step([batch], StopRequest(), MOMENTUM)


def training(setting: Setting, network: str, form: str = CAPTURED, precision: str = "float32") -> Training:
    """Of one of NETWORKS, in one of FORMS."""
    flags = ["--device", str(setting.device), "--amp", "bf16" if precision == "bf16" else "none"]
    args = train_scannet.parse_config([*flags, "--graph" if form == CAPTURED else "--no-graph"])
    config = pointnet2.PointNet2Config(SCANNET20.num_classes, **NETWORKS[network])
    model, optimizer = train_scannet.build(args, config, setting.device)
    with_context(model.train())
    says = []
    run = Run(model, optimizer, {"seed": SEED}, {}, SimpleNamespace(say=says.append))
    round_to_tf32(precision == "TF32")
    if form == TEXTBOOK:
        written_out = functools.partial(textbook_form, model)
        return Training(run, Step(model, optimizer, loss_of(written_out, setting, args)), says)
    return Training(run, train_scannet.step_of(args, run, setting.device), says)


def loss_of(forward: Callable, setting: Setting, args) -> Callable:
    return functools.partial(train_scannet.chunk_loss, forward, setting.device, args)


def chunks_of(setting: Setting) -> TrainingChunks:
    return TrainingChunks(setting.scenes, SEED, points=setting.sizes.chunk)


def batch_on_device(setting: Setting, size: int, first: int = 0) -> dict[str, Tensor]:
    """Of the first epoch: points (B, N, 3), classes (B, N), weight (B, N)."""
    return {name: t.to(setting.device) for name, t in training_batch(chunks_of(setting), size, first).items()}


def equality(setting: Setting) -> dict:
    size = setting.sizes.fed
    batches = [batch_on_device(setting, size, size * number) for number in range(setting.sizes.compared)]

    def measure(network: str) -> dict:
        eager = trajectory(setting, network, EAGER, batches)
        others = {name: trajectory(setting, network, form, batches) for name, form in ((AGAIN, EAGER), (CAPTURED,) * 2)}
        return {name: [difference(*pair) for pair in zip(eager, other, strict=True)] for name, other in others.items()}

    rows = setting.rows("equality", [{"network": name} for name in COMPARED], measure)
    return {"batch": size, "captured": how(setting), "rows": rows}


def how(setting: Setting) -> str:
    """How a step that is to be captured runs here."""
    return training(setting, COMPARED[0]).says[0]


def trajectory(setting: Setting, network: str, form: str, batches: list[dict]) -> list[tuple[float, Tensor]]:
    """Loss, and weights and running statistics (weights,), after each step."""
    trained, states = training(setting, network, form), []
    for number, batch in enumerate(batches):
        torch.manual_seed(number)  # dropout
        loss = trained(batch).loss
        tensors = [*trained.step.weights, *trained.run.model.buffers()]
        states.append((loss, torch.cat([t.detach().flatten().double().cpu() for t in tensors])))
    return states


def difference(ours: tuple[float, Tensor], other: tuple[float, Tensor]) -> dict:
    """Whether two states are equal to the bit; else how far apart, relative to the first."""
    (loss, weights), (loss_of_other, weights_of_other) = ours, other
    return {
        "equal": loss == loss_of_other and torch.equal(weights, weights_of_other),
        "loss": abs(loss - loss_of_other) / abs(loss),
        "weights": ((weights - weights_of_other).norm() / weights.norm()).item(),
    }


def steps(setting: Setting) -> dict:
    whole = batch_on_device(setting, max(setting.sizes.batches))

    def measure(precision: str, batch: int, network: str) -> dict:
        part, calls = {name: t[:batch] for name, t in whole.items()}, {}
        forms = {
            form: setting.attempt(first_steps, setting, network, form, precision, part, calls)
            for form in FORMS[precision]
        }
        for form, seconds in setting.take_turns(calls).items():
            forms[form]["seconds"] = seconds
        return {"forms": forms}

    keys = [
        dict(precision=precision, batch=batch, network=network)
        for precision in FORMS
        for batch in setting.sizes.batches
        for network in NETWORKS
    ]
    rows = setting.rows("steps", keys, measure)
    round_to_tf32(False)
    return {"captured": how(setting), "rows": rows}


def first_steps(setting: Setting, network: str, form: str, precision: str, batch: dict, calls: dict) -> dict:
    """Adds the form's step to the calls. Its memory beside the weights."""
    call = functools.partial(training(setting, network, form, precision), batch)
    memory = setting.first_calls(call)
    calls[form] = call
    return memory
