"""Puts context layers, such as LatentGNN, behind modules of a network that is already built.

    blocks = {"layer3": LatentGNN(1024, latent_nodes=100, stride=16, norm=None)}
    insert_context(resnet, blocks)

This file needs nothing but torch: copy it into another project as it is.
"""

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

    Raises ValueError for a path that does not exist or that has a context layer already; nothing is changed then.
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
        if type(stage).forward is not nn.Sequential.forward:  # an nn.Sequential runs its children in order
            stage.register_forward_hook(_through_context)


def _through_context(stage: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """A function of the module, not a closure or a method: hooks of a copied or unpickled network find their own."""
    return getattr(stage, NAME)(output)
