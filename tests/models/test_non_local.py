import copy
import io

import pytest
import torch
from drawn import cloud

from models.non_local import AFFINITIES, NonLocal
from models.textbook import non_local_forward


def make(channels=8, affinity="dot", **options):
    torch.manual_seed(0)
    block = NonLocal(channels, affinity, **options).double()
    with torch.no_grad():
        block.norm.weight.uniform_(0.5, 1.5)
        block.norm.bias.uniform_(-0.5, 0.5)
        block.norm.running_var.uniform_(0.5, 1.5)
    return block


def results(block, forward, x, upstream):
    block, x = copy.deepcopy(block), x.clone().requires_grad_()
    y = forward(block, x)
    return [y.detach(), *torch.autograd.grad(y, [x, *block.parameters()], upstream), *block.buffers()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affinity", AFFINITIES)
def test_equals_the_dense_form(affinity, training):
    block, x = make(affinity=affinity).train(training), cloud(2, 40, 8)
    for upstream in (cloud(2, 40, 8, seed=2), cloud(2, 8, 40, seed=2).transpose(1, 2)):
        fast = results(block, lambda block, x: block(x), x, upstream)
        textbook = results(block, non_local_forward, x, upstream)
        torch.testing.assert_close(fast, textbook, rtol=1e-9, atol=1e-11)


def test_dense_form_equals_a_loop_over_points():
    """The definition point by point, for the affinity of the paper's baseline, without its batch norm."""
    block, x = make(), cloud(1, 6, 8)
    block.norm = torch.nn.Identity()
    theta, phi, g, w = (m.weight.squeeze(2) for m in (block.theta, block.phi, block.g, block.weight))
    for i in range(6):
        y = sum(torch.dot(theta @ x[0, i], phi @ x[0, j]) / 6 * (g @ x[0, j]) for j in range(6))
        torch.testing.assert_close(non_local_forward(block, x)[0, i], x[0, i] + w @ y, rtol=1e-10, atol=1e-12)


def test_parameters_of_the_four_blocks():
    blocks = [NonLocal(channels) for channels in (64, 128, 256, 512)]
    convolutions = [p for block in blocks for name, p in block.named_parameters() if "norm" not in name]
    assert sum(p.numel() for p in convolutions) == 696_320
    assert sum(p.numel() for block in blocks for p in block.parameters()) == 698_240


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_fresh_block_is_the_identity(affinity):
    x = cloud(2, 30, 8).float()
    assert torch.equal(NonLocal(8, affinity)(x), x)


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_permuting_points_permutes_the_output(affinity):
    block, x = make(affinity=affinity), cloud(2, 30, 8)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_zero_features_stay_finite(affinity):
    block, x = make(affinity=affinity), torch.zeros(2, 30, 8, dtype=torch.float64, requires_grad=True)
    y = block(x)
    y.sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 7}, "even"),
        ({"channels": 0}, "even"),
        ({"affinity": "gauss"}, "affinity must be one of"),
        ({"layout": "columns"}, "layout must be one of"),
    ],
)
def test_bad_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        NonLocal(**{"channels": 8, **options})


@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (2, 8, 2, 3, 5)])
def test_maps_equal_points(shape):
    block, maps = make(), cloud(*shape)
    expected = block(maps.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(maps.shape)
    torch.testing.assert_close(block(maps), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_channels_first_points_equal_rows(affinity):
    x = cloud(2, 8, 8)
    expected = make(affinity=affinity)(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(make(affinity=affinity, layout="channels_first")(x), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match='layout="channels_first"'):
        make(layout="channels_first")(cloud(2, 30, 8))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_computed_with_in_float32(dtype, affinity, training):
    half, x = make(affinity=affinity).to(dtype).train(training), cloud(2, 30, 8).to(dtype)
    wide = copy.deepcopy(half).float()
    assert torch.equal(half(x), wide(x.float()).to(dtype))
    assert torch.equal(half.norm.running_var, wide.norm.running_var.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_points_of_another_dtype_raise_and_name_both(dtype):
    block, x = make().float(), cloud(2, 30, 8).to(dtype)
    with pytest.raises(ValueError, match=f"NonLocal.*{dtype}.*torch.float32"):
        block(x)
    if dtype == torch.float16:
        with torch.autocast("cpu", dtype=dtype):
            assert block(x).dtype == dtype


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_saved_trace_is_the_block(affinity):
    block, x, file = make(affinity=affinity).eval(), cloud(2, 30, 8), io.BytesIO()
    torch.jit.save(torch.jit.trace(block, x), file)
    file.seek(0)
    assert torch.equal(torch.jit.load(file)(x), block(x))


@pytest.mark.parametrize("shape", [(30, 8), (2, 8, 30), (2, 7, 3, 3), (2, 8, 3, 3, 3, 3)])
def test_bad_shapes_raise(shape):
    with pytest.raises(ValueError, match="NonLocal takes"):
        make()(cloud(*shape))
