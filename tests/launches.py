"""How many kernels torch code starts on a GPU, counted without one: on meta tensors, which take the GPU's path."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FREE = ("alias", "detach", "empty", "is_same_size", "lift_fresh", "new_empty", "prim", "promote_types", "_unsafe_view")


class _NoNumbers(TorchFunctionMode):
    """A tensor made of Python numbers is a copy from the host, which no operator shows."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function.__name__ not in ("new_tensor", "tensor", "as_tensor"), (
            f"{function.__name__} copies from the host"
        )
        return function(*args, **kwargs or {})


class Launches(TorchDispatchMode):
    """Within: counts the operators that are no views. One that a host has to wait for is an AssertionError: it takes
    tensors of several devices, or reads a value."""

    count = 0

    def __enter__(self):
        self.functions = _NoNumbers()
        self.functions.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.functions.__exit__(*error)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator._schema.name.split("::")[1]
        assert name != "_local_scalar_dense", "a value is read"
        out = operator(*args, **kwargs or {})
        devices = {t.device for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)}
        assert len(devices) < 2, f"{name} takes tensors of {devices}"
        self.count += not operator.is_view and not name.startswith(FREE)
        return out
