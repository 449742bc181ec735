"""The point operators, and one context layer alone."""

import copy
import functools
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

import models.latentgnn
import ops
from ops import reference
from scripts.benchmarks import latentgnn
from scripts.benchmarks.gpu.setting import SEED, Setting
from scripts.benchmarks.operators import LEVELS, calls_of, room_chunk
from training.graph import Graph

MOMENTS, DIRECT = "moments", "batch norm"  # the two forms of models.latentgnn.normalised_product
RELEASED, REORDERED = "as released, K = 1", "non-local, reordered"
ALWAYS, NEVER = 0, 2**62  # values from which on moments are taken
MATRICES = 8  # N x N of the non-local block as published: two and their gradients, eager and in a graph
SHARE = 0.8  # of the free memory that they may take
FREE_ON_CPU = 2e9  # bytes, in the memory's stead


def operators(setting: Setting) -> dict:
    sizes, rng = setting.sizes, np.random.default_rng(SEED)
    chunks = np.stack([room_chunk(rng)[: sizes.chunk] for _ in range(sizes.clouds)])
    xyz = torch.from_numpy(chunks).to(setting.device)  # (B, N, 3)
    clouds, questions = {}, {}
    for m, radius in LEVELS:
        centres = ops.group_points(xyz, reference.furthest_point_sample(xyz, m)[:, :, None])[:, :, 0]  # (B, M, 3)
        clouds[m], questions[m] = xyz.shape[1], calls_of(xyz, centres, radius)
        xyz = centres

    def measure(centres: int, operator: str, points: int) -> dict:
        call = questions[centres][operator]
        equal = torch.equal(call(ops), call(reference))
        seconds = setting.take_turns({"ours": lambda: call(ops), "reference": lambda: call(reference)})
        return {"equal": equal, "seconds": seconds}

    keys = [dict(centres=m, operator=name, points=clouds[m]) for m in questions for name in questions[m]]
    return {"ops": ops.describe(), "clouds": sizes.clouds, "rows": setting.rows("operators", keys, measure)}


def layer(setting: Setting) -> dict:
    def measure(points: int) -> dict:
        x = torch.randn(1, points, latentgnn.CHANNELS, generator=torch.Generator().manual_seed(SEED))
        x, forms, calls = x.to(setting.device), {}, {}  # (1, N, C)
        for name, (module, bound) in forms_of_layer().items():
            forms[name] = setting.attempt(first_calls, setting, name, module.to(setting.device), bound, x, calls)
        for name, seconds in setting.take_turns(calls).items():
            form, how = name.split(": ")
            forms[form][how] = seconds
        return {"forms": forms}

    about = dict(channels=latentgnn.CHANNELS, latent_nodes=latentgnn.LATENT_NODES, bound=models.latentgnn.LAUNCHED)
    return about | {"rows": setting.rows("layer", [{"points": n} for n in setting.sizes.points], measure)}


def forms_of_layer() -> dict[str, tuple[nn.Module, int]]:
    """{name: layer, values from which on it takes moments}."""
    found = latentgnn.layers()
    forms = {
        form: (copy.deepcopy(found[latentgnn.OURS]), bound) for form, bound in ((MOMENTS, ALWAYS), (DIRECT, NEVER))
    }
    return forms | {name: (found[name], NEVER) for name in (RELEASED, REORDERED, latentgnn.DENSE)}


def first_calls(setting: Setting, name: str, module: nn.Module, bound: int, x: Tensor, calls: dict) -> dict:
    """Adds to {"form: how": call} this form's calls, eager and, on a GPU, replayed. Its memory, eager.

    Forward and backward of the layer on x (1, N, C)."""
    if name == latentgnn.DENSE:
        refuse_matrices(setting, x.shape[1])
    eager = with_bound(bound, latentgnn.gradients(module, x))
    memory = setting.first_calls(eager)
    calls[f"{name}: eager"] = eager
    if setting.on_gpu:
        replayed = functools.partial(Graph(eager, setting.device), None)
        if why := setting.attempt(setting.first_calls, replayed).get("error"):
            return memory | {"error": why}
        calls[f"{name}: replayed"] = replayed
    return memory


def refuse_matrices(setting: Setting, points: int) -> None:
    """Raises MemoryError where the N x N matrices do not fit."""
    free = torch.cuda.mem_get_info(setting.device)[0] if setting.on_gpu else FREE_ON_CPU
    needed = MATRICES * 4 * points**2  # bytes
    if needed > SHARE * free:
        raise MemoryError(f"needs some {needed / 1e9:,.0f} GB")


def with_bound(bound: int, call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The call, for which batch norm takes moments from so many values on."""

    def bounded() -> Tensor:
        with mock.patch.multiple(models.latentgnn, LAUNCHED=bound, CACHED=bound):
            return call()

    return bounded
