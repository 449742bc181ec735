"""Functions of tensors on a GPU, replayed as CUDA graphs: the host starts one graph instead of hundreds of kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from training.stopping import TrainingError


def eagerly(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function as it is, called as a Graph is."""
    return lambda key, *batches: function(*batches)


class Graph:
    """graph(key, *batches) does what function(*batches) does, for batches whose shapes never change.

    A graph holds kernels, addresses and the Python numbers that its function saw: `key` stands for those numbers, and
    another key is captured anew. What is to change otherwise is a tensor, written in place. Random numbers are drawn
    anew in each replay, from the generator of torch.manual_seed. The function must neither copy to the GPU nor wait.

    The first call runs the function as it is, for kernels are compiled and states are made in it. Each result lies
    where the one before it lay.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device):
        self.function, self.device = function, device
        self.inputs = self.replay = self.output = self.key = self.stream = None

    def __call__(self, key: Any, *batches: dict[str, Tensor]) -> Tensor:
        if self.inputs is None:
            self.inputs = [{name: t.to(self.device, copy=True) for name, t in batch.items()} for batch in batches]
            return self.warm_up()
        for own, batch in zip(self.inputs, batches, strict=True):
            for name, tensor in batch.items():
                own[name].copy_(tensor, non_blocking=True)
        if self.replay is None or key != self.key:
            self.replay = self.output = None  # frees the memory of the graph before
            self.replay, self.output = self.capture()
            self.key = key
        self.replay()
        return self.output

    def warm_up(self) -> Tensor:
        """What the function returns, run on the stream that will be captured."""
        ours, self.stream = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        self.stream.wait_stream(ours)
        with torch.cuda.stream(self.stream):
            output = self.function(*self.inputs)
        ours.wait_stream(self.stream)
        return output

    def capture(self) -> tuple[Callable[[], None], Tensor]:
        """What replays the function on the inputs, and where its result then lies. Nothing runs yet."""
        graph = torch.cuda.CUDAGraph()
        try:  # thread_local: a loader's thread may pin memory meanwhile
            with torch.cuda.stream(self.stream):  # which is left even where the end of a broken capture raises
                with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                    output = self.function(*self.inputs)
        except RuntimeError as error:
            reason = str(error.__context__ or error).splitlines()[0]  # that which broke it, not what its end says
            raise TrainingError(f"the step cannot be captured ({reason}); --no-graph runs it eagerly") from error
        return graph.replay, output
