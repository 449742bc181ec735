"""Puts context layers, such as LatentGNN, behind modules of a network that is already built.

    blocks = {"layer3": LatentGNN(1024, latent_nodes=100, stride=16, norm=None)}
    insert_context(resnet, blocks)

This file needs nothing but torch: copy it into another project as it is.
"""

import functools

from torch import Tensor, nn

NAME = "context"  # of the new child; its parameters are <path>.context.* in the state_dict


def insert_context(model: nn.Module, blocks: dict[str, nn.Module]) -> None:
    """Give the modules at the paths of `blocks` a last step: their output goes through the block.

    Everything that the network's state_dict held keeps its key, so weights of the plain network load with strict=False
    afterwards, or before. Insert before the optimizer is built and before DistributedDataParallel or torch.compile
    wraps the network: they would not see the new parameters.

    Args:
        model: any network; it is changed in place.
        blocks: path, as in model.named_modules() -> a module that maps the output of the one at that path, a single
            tensor, to a tensor of the same shape.

    Raises ValueError for a path that does not exist or that has a context layer already; nothing is changed then. The
    network raises ValueError when it runs and the module at a path returns something other than one tensor.
    """
    stages = {}
    for path in blocks:
        try:
            stage = model.get_submodule(path)
        except AttributeError as error:
            raise ValueError(
                f"insert_context: {path!r} is no module of the {type(model).__name__}: {error}. "
                "model.named_modules() lists all paths"
            ) from error
        if hasattr(stage, NAME) or stage in stages.values():
            raise ValueError(
                f"insert_context: {path!r} ({type(stage).__name__}) already has something called {NAME!r}; "
                "a module takes one context layer: give each one once, or chain them in an nn.Sequential"
            )
        stages[path] = stage

    for path, stage in stages.items():
        stage.add_module(NAME, blocks[path].train(stage.training))
        blocks[path].register_forward_pre_hook(functools.partial(_check_output, path))
        if type(stage).forward is not nn.Sequential.forward:  # an nn.Sequential runs its children in order
            stage.register_forward_hook(_through_context)


# Hooks are functions of the module, not closures or methods: those of a copied or unpickled network find their own.


def _check_output(path: str, block: nn.Module, inputs: tuple) -> None:
    for output in inputs:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"insert_context: {path!r} returned a {type(output).__name__}, but {type(block).__name__} takes one "
                "tensor: give the path of a module that returns that alone (model.named_modules() lists all paths)"
            )


def _through_context(stage: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return getattr(stage, NAME)(output)
