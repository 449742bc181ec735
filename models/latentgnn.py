"""LatentGNN: non-local feature augmentation through a small latent graph, linear in the number of points.

Zhang, Yan and He, "LatentGNN: Learning Efficient Non-local Relations for Visual Recognition", ICML 2019.
This file needs nothing but torch: copy it into another network as it is.

Shapes: B clouds (or images), N points (or pixels), C channels, c = C / stride bottleneck channels,
d latent nodes, K kernels. v2l means visible to latent, l2v latent to visible. Equation numbers are the paper's.
"""

import contextlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MIN_LENGTH = 1e-12  # that vectors are divided by, as in F.normalize
CACHED = 2**17  # values, half a MiB in float32
LAUNCHED = 2**24  # values that a GPU passes over in the time of starting some 35 kernels: an estimate
WEIGHT_INIT_STD = 0.01  # of W, as in the authors' released module
HALF_PRECISION = (torch.float16, torch.bfloat16)
L2V_NORMS = ("nodes", "points")
WEIGHT_SIDES = ("visible", "latent", None)
LAYOUTS = {"rows": "(B, N, C)", "channels_first": "(B, C, N)"}  # of points


class LatentGNN(nn.Module):
    """Adds to every point what K low-rank graphs gather from all other points; the shape stays the same.

    The N x N affinity of a kernel, A = psi_l2v^T F psi_v2l, is never formed: features go from N points to d
    latent nodes, pass messages there, and come back, at O(N d c) instead of O(N^2 c).

    Args:
        channels: C, of input and output.
        latent_nodes: d, of each kernel.
        kernels: K (Eq. 14); their outputs are concatenated and mixed by one 1x1 convolution.
        stride: C / c, how many times fewer channels the graph works on.
        symmetric: one reduction and one affinity for both directions, normalised over the latent nodes in both.
        l2v_norm: psi_l2v has unit L2 norm over the latent "nodes" (each point's column) or over the "points".
        weight: where W of Eq. 8 and 12 acts. "visible": on the points, as in the released module;
            "latent": on the latent nodes before their affinity F is formed; None: neither W nor h.
            h is batch norm and ReLU, on the points in both cases.
        norm: what makes a normalisation of (B, channels, N) from its number of channels; None leaves it out.
        residual: X + scale * X~, with a learned scale (the paper's lambda) that starts at 0 (Eq. 15): a fresh layer is
            the identity, and its other parameters get no gradient before the scale has moved. Otherwise X~ alone.
        layout: of points: "rows" (B, N, C) or "channels_first" (B, C, N). Maps are channels-first always.
        learned_temperature: F = softmax(t_k cosines), with an inverse temperature t_k learned for each kernel; the
            paper's is 1, so that the entries of a row of F differ by e^2 at most, and now by e^(2 t_k). t_k is
            exp(logit_scale), as in CLIP, and starts at 1: it stays positive, and weight decay draws it to 1.
        signed: psi without the paper's ReLU: a point can take the opposite of what another does. Between its norms
            psi is then linear in c channels, so that a kernel's A has rank c + 1 at most.
    """

    def __init__(
        self,
        channels: int,
        latent_nodes: int,
        kernels: int = 1,
        stride: int = 4,
        symmetric: bool = False,
        l2v_norm: str = "nodes",
        weight: str | None = "visible",
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm1d,
        residual: bool = True,
        *,
        layout: str = "rows",
        learned_temperature: bool = False,
        signed: bool = False,
    ):
        super().__init__()
        for name, value in (("latent_nodes", latent_nodes), ("kernels", kernels), ("stride", stride)):
            if value < 1:
                raise ValueError(f"LatentGNN: {name} must be at least 1, got {value}")
        if channels < 1 or channels % stride:
            raise ValueError(f"LatentGNN: channels ({channels}) must be a positive multiple of stride ({stride})")
        choices = ("l2v_norm", l2v_norm, L2V_NORMS), ("weight", weight, WEIGHT_SIDES), ("layout", layout, LAYOUTS)
        for name, value, allowed in choices:
            if value not in allowed:
                raise ValueError(f"LatentGNN: {name} must be one of {tuple(allowed)}, got {value!r}")
        if symmetric and l2v_norm != "nodes":
            raise ValueError('LatentGNN: symmetric normalises over the latent nodes, so it needs l2v_norm="nodes"')
        self.channels, self.latent_nodes, self.kernels, self.layout = channels, latent_nodes, kernels, layout
        self.symmetric, self.l2v_norm, self.weight_side, self.signed = symmetric, l2v_norm, weight, signed

        def conv(channels_in: int, channels_out: int) -> nn.Sequential:  # 1x1, normalised
            normalise = nn.Identity() if norm is None else norm(channels_out)
            return nn.Sequential(nn.Conv1d(channels_in, channels_out, 1, bias=False), normalise)

        c, d, K = channels // stride, latent_nodes, kernels
        self.reduce_v2l = conv(channels, c)
        self.psi_v2l = conv(c, K * d)
        if not symmetric:
            self.reduce_l2v = conv(channels, c)
            self.psi_l2v = conv(c, K * d)
        if weight is not None:
            self.weight = nn.Parameter(torch.randn(K, c, c) * WEIGHT_INIT_STD)
            self.weight_norm = nn.Identity() if norm is None else norm(K * c)
        self.mixture = conv(K * c, channels)
        self.scale = nn.Parameter(torch.zeros(1)) if residual else None
        self.logit_scale = nn.Parameter(torch.zeros(K, 1, 1)) if learned_temperature else None  # the logarithm of t_k

    def forward(self, x: Tensor) -> Tensor:
        """Points in the layer's layout, or a map (B, C, H, W) or (B, C, D, H, W) -> the same shape and dtype.

        Computes in float32 at least, under autocast too: the squares that L2 normalisation sums underflow in float16.
        Weights are of the dtype of x, or float32 where x is of half precision: so they are to be trained, in a network
        under torch.autocast, for half precision rounds small steps away.

        Raises ValueError for another number of axes or channels, for weights of another dtype, and, from batch norm in
        training mode, when B * N = 1: a single value a channel has no variance.
        """
        is_rows = takes_rows(self, x)
        if is_half_precision(self, self.mixture[0].weight, x, mixed=True):
            return in_float32(self, x)
        # The meta device has no autocast
        with contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            # A transposed view is as good an operand of a matrix product as a copy would be
            update = self.propagate(wide.transpose(1, 2) if is_rows else wide.flatten(2))  # (B, C, N)
            update = update.transpose(1, 2) if is_rows else update.view(x.shape)  # the shape of x
            return (update if self.scale is None else torch.addcmul(wide, self.scale, update)).to(x.dtype)  # Eq. 15

    def propagate(self, x: Tensor) -> Tensor:
        """X (B, C, N) -> X~ (B, C, N), by the paper's equations.

        W, which Eq. 12 has on the points, acts on the latent nodes' messages: (psi_l2v^T Z) W = psi_l2v^T (Z W).
        """
        K, d = self.kernels, self.latent_nodes
        x_v2l = unit(normalised_product(*self.reduce_v2l, x), 1)  # (B, c, N)
        psi_v2l = self.affinity(self.psi_v2l, x_v2l)  # (B, K d, N)
        if self.symmetric:
            psi_l2v = unit(psi_v2l.unflatten(1, (K, d)), 2)  # (B, K, d, N)
            z = psi_l2v.flatten(1, 2) @ x_v2l.transpose(1, 2)  # (B, K d, c)  Eq. 5
        else:
            x_l2v = unit(normalised_product(*self.reduce_l2v, x), 1)  # (B, c, N)
            psi_l2v = self.affinity(self.psi_l2v, x_l2v).unflatten(1, (K, d))  # (B, K, d, N)
            z = unit_product(psi_v2l, x_v2l.transpose(1, 2), -1)  # (B, K d, c)  Eq. 5
        z = self.weighted(z.unflatten(1, (K, d)), "latent")  # (B, K, d, c)  Eq. 8
        z_unit = unit(z, 3)  # (B, K, d, c)
        f = F.softmax(self.tempered(z_unit @ z_unit.transpose(2, 3)), dim=3)  # (B, K, d, d)
        z = f @ z  # (B, K, d, c)  Eq. 6, 10
        z = self.weighted(z, "visible").transpose(2, 3)  # (B, K, c, d)  A X W of Eq. 12
        if self.symmetric:
            x_tilde = z @ psi_l2v  # (B, K, c, N)  Eq. 7, 11
        elif self.l2v_norm == "nodes":
            x_tilde = unit_product(psi_l2v, z, -2)  # (B, K, c, N)
        else:
            x_tilde = z @ unit(psi_l2v, 3)  # (B, K, c, N)
        x_tilde = self.h(x_tilde.flatten(1, 2))  # (B, K c, N)
        return normalised_product(*self.mixture, x_tilde)  # (B, C, N)  Eq. 14

    def affinity(self, conv: nn.Sequential, x: Tensor) -> Tensor:
        """Points (B, c, N) -> psi (B, K d, N), before its L2 norm."""
        psi = normalised_product(*conv, x)
        return psi if self.signed else F.relu(psi, inplace=True)

    def tempered(self, cosines: Tensor) -> Tensor:
        """t_k times the cosines (B, K, d, d), or these where t_k is not learned."""
        return cosines if self.logit_scale is None else cosines * self.logit_scale.exp()

    def weighted(self, z: Tensor, side: str) -> Tensor:
        """Z W (B, K, d, c), or Z where W acts on the other side or is left out."""
        return z @ self.weight if self.weight_side == side else z

    def h(self, x: Tensor) -> Tensor:
        """Batch norm and ReLU of (B, K c, N), or x without W."""
        if self.weight_side is None:
            return x
        return F.relu(self.weight_norm(x), inplace=not isinstance(self.weight_norm, nn.Identity))  # x itself is kept


def normalised_product(conv: nn.Conv1d, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(conv(x)) of x (B, C, N) -> (B, C', N); conv is 1x1 without a bias.

    Batch norm needs mean and variance of W x, which those of x give: mean(W x) = W mean(x) and
    var(W x) = diag(W cov(x) W^T). They then scale the rows of W, so that W x is written once, and its
    statistics are never read from it. It pays for outputs that are wider than x and too large for the CPU's cache,
    or, on a GPU, for the start of the kernels to count.
    """
    weight = conv.weight.squeeze(2)  # (C', C)
    (outputs, channels), points = weight.shape, x.shape[0] * x.shape[2]
    plain = type(norm) is nn.BatchNorm1d and norm.affine and norm.track_running_stats and norm.momentum is not None
    pays = channels < outputs and outputs * points > (CACHED if x.device.type == "cpu" else LAUNCHED)
    if not (plain and norm.training and pays):
        return norm(weight.expand(x.shape[0], -1, -1) @ x)  # expanded, or matmul would copy x to fold B into N
    mean = x.mean((0, 2))  # (C,)
    x = x - mean[:, None]  # (B, C, N)
    covariance = (x @ x.transpose(1, 2)).sum(0) / points  # (C, C)
    variance = (weight @ covariance * weight).sum(1)  # (C',)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(weight @ mean, norm.momentum)
        norm.running_var.lerp_(variance * (points / (points - 1)), norm.momentum)  # unbiased
    weight = weight * (norm.weight * (variance + norm.eps).rsqrt())[:, None]  # (C', C)
    return torch.baddbmm(norm.bias[:, None], weight.expand(x.shape[0], -1, -1), x)  # (B, C', N)


# A unit vector and its gradient in seven launches of a kernel instead of autograd's seventeen. torch.func would want
# Functions that take twice as long to call, and a trace with one could not be saved: both get plain torch.


def unit(x: Tensor, dim: int) -> Tensor:
    """x divided by its L2 norm over one axis, which is at least MIN_LENGTH."""
    return _unit(x, dim) if _is_recorded() else _Unit.apply(x, dim)


def unit_product(psi: Tensor, other: Tensor, axis: int) -> Tensor:
    """Product over an axis of unit(psi, axis): psi (..., Q, M) @ other (..., M, P) for axis -1, other (..., P, M) @ psi
    (..., M, Q) for axis -2. The lengths divide the product, which is much smaller than psi."""
    return _unit_product(psi, other, axis) if _is_recorded() else _UnitProduct.apply(psi, other, axis)


def _is_recorded() -> bool:
    return torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()


def _unit(x: Tensor, dim: int) -> Tensor:
    return x / _length(x, dim)


def _unit_product(psi: Tensor, other: Tensor, axis: int) -> Tensor:
    return (psi @ other if axis == -1 else other @ psi) / _length(psi, axis)


def _length(x: Tensor, dim: int) -> Tensor:
    """L2 norm over one axis, which is kept; at least MIN_LENGTH. Of 0 the gradient is 0."""
    if x.device.type != "cpu" or dim % x.dim() == x.dim() - 1:
        return torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp(min=MIN_LENGTH)
    # On the CPU 50 times faster than vector_norm, which does not vectorise over other axes
    return x.square().sum(dim, keepdim=True).clamp(min=MIN_LENGTH**2).sqrt()


class _Unit(torch.autograd.Function):
    """y = x / |x|, whose gradient is (g - y <g, y>) / |x|."""

    @staticmethod
    def forward(ctx, x, dim):
        norm = _length(x, dim)
        y = x / norm
        ctx.save_for_backward(y, norm)
        ctx.dim = dim
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, norm = ctx.saved_tensors
        along = (grad * y).sum(ctx.dim, keepdim=True)
        return torch.addcmul(grad, y, along, value=-1).div_(norm), None


class _UnitProduct(torch.autograd.Function):
    """y = psi @ other / |psi|, or other @ psi / |psi|. With h = g / |psi|, the other factor's gradient is psi^T h, and
    that of psi h other^T - psi <h, y> / |psi|."""

    @staticmethod
    def forward(ctx, psi, other, axis):
        norm = _length(psi, axis)
        y = (psi @ other if axis == -1 else other @ psi).div_(norm)
        ctx.save_for_backward(psi, other, norm, y)
        ctx.axis = axis
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        psi, other, norm, y = ctx.saved_tensors
        grad = grad / norm  # the shape of y
        along = (grad * y).sum(ctx.axis, keepdim=True).div_(norm)  # the shape of norm
        of_psi, of_other = psi.transpose(-1, -2), other.transpose(-1, -2)
        grad_psi, grad_other = (grad @ of_other, of_psi @ grad) if ctx.axis == -1 else (of_other @ grad, grad @ of_psi)
        return grad_psi.addcmul_(psi, along, value=-1), grad_other, None


def takes_rows(layer: nn.Module, x: Tensor) -> bool:
    """Whether x is rows (B, N, C), as the `layout` of the layer has it, or its `channels` are the axis 1.

    Raises ValueError for what is neither, nor a map.
    """
    is_rows = x.dim() == 3 and layer.layout == "rows"
    if x.dim() not in (3, 4, 5) or x.shape[2 if is_rows else 1] != layer.channels:
        points = f'{LAYOUTS[layer.layout]} with layout="{layer.layout}"'
        maps = f"(B, C, H, W) or (B, C, D, H, W), of C = {layer.channels}"
        raise ValueError(f"{type(layer).__name__} takes points {points}, or maps {maps}, got {tuple(x.shape)}")
    return is_rows


def is_half_precision(module: nn.Module, weight: Tensor, x: Tensor, mixed: bool = False) -> bool:
    """Whether the weights of a module are of half precision; `in_float32` computes with those.

    Raises ValueError if x is of another dtype, unless x alone is of half precision and the weights are float32, under
    autocast or if the module takes such `mixed` precision by itself.
    """
    if x.dtype != weight.dtype:
        is_mixed = weight.dtype == torch.float32 and x.dtype in HALF_PRECISION
        if not (is_mixed and (mixed or torch.is_autocast_enabled(x.device.type))):
            dtypes = f"the input is {x.dtype}, the weights are {weight.dtype}"
            raise ValueError(f"{type(module).__name__}: {dtypes}: convert one to the dtype of the other")
    return weight.dtype in HALF_PRECISION


def in_float32(module: nn.Module, x: Tensor) -> Tensor:
    """module.forward(x) with x, parameters and buffers as float32 -> the dtype of x. Buffers keep what changed."""
    twin = _float32_twin(module)
    y = twin.forward(x.float())
    if module.training:
        with torch.no_grad():
            for buffer, changed in zip(module.buffers(), twin.buffers(), strict=True):
                buffer.copy_(changed)
    return y.to(x.dtype)


def _float32_twin(module: nn.Module) -> nn.Module:
    """A module of float32 copies: gradients reach the originals, and the hooks of the modules inside are called."""

    def wide(tensors: dict) -> dict:
        return {name: t.float() if t is not None and t.is_floating_point() else t for name, t in tensors.items()}

    twin = object.__new__(type(module))  # copy.copy would do, but torch.compile cannot follow it
    twin.__dict__.update(
        module.__dict__,
        _parameters=wide(module._parameters),
        _buffers=wide(module._buffers),
        _modules={name: child and _float32_twin(child) for name, child in module._modules.items()},
    )
    return twin
