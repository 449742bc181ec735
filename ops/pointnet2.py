"""pointnet2_ops, the CUDA package of many PointNet++ ports, behind this project's names, for comparison with published
runs. It breaks ties otherwise, may round otherwise, and skips points within 3.2 cm of the origin when it samples."""

import torch

from ops.cpu import CompileError

INSTALL = (
    "pip install --no-build-isolation "
    '"pointnet2_ops @ git+https://github.com/erikwijmans/Pointnet2_PyTorch#subdirectory=pointnet2_ops_lib"'
)
try:
    from pointnet2_ops import _ext
except (ImportError, OSError, RuntimeError) as error:  # it tries to compile what it lacks
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise CompileError(f"pointnet2_ops cannot be imported ({reason}): {INSTALL}") from error

DEVICE = "cuda"  # of the tensors that it takes


def load() -> str:
    if not torch.cuda.is_available():
        raise CompileError("pointnet2_ops needs a GPU: torch sees none")
    return torch.cuda.get_device_name()


def furthest_point_sample(xyz, m):
    with torch.cuda.device(xyz.device):
        return _ext.furthest_point_sampling(xyz.contiguous(), m).long()


def ball_query(radius, nsample, xyz, centres):
    with torch.cuda.device(xyz.device):
        return _ext.ball_query(centres.contiguous(), xyz.contiguous(), radius, nsample).long()


def three_nn(unknown, known):
    with torch.cuda.device(unknown.device):
        squared_distance, index = _ext.three_nn(unknown.contiguous(), known.contiguous())
    return squared_distance, index.long()
