import json
import sys

import pytest
import torch.nn.functional as F
from torch import nn

from models.context import CONTEXTS
from models.mask_rcnn import MaskRCNNConfig
from models.pointnet2 import PointNet2Config
from scripts import complexity

PLAIN = complexity.count(PointNet2Config(21))
PLAIN_1024 = complexity.count(PointNet2Config(21), points=1024)  # context layers do not see more than 1024 points


def added(**options):
    counted = complexity.count(PointNet2Config(21, **options), points=1024)
    return {key: counted[key] - PLAIN_1024[key] for key in counted}


def test_pointnet2():
    assert PLAIN == {"parameters": 965_173, "conv_macs": 1_244_266_496, "product_macs": 0}


def test_non_local():
    n_by_n = sum(n * n * c for n, c in ((1024, 64), (256, 128), (64, 256), (16, 512)))
    assert added(context="non_local") == {"parameters": 698_240, "conv_macs": 33_554_432, "product_macs": n_by_n}


@pytest.mark.parametrize("kernels", [1, 3])
@pytest.mark.parametrize("weight", ["visible", "latent", None])
def test_latentgnn(kernels, weight):
    levels = ((1024, 64, 80), (256, 128, 40), (64, 256, 20), (16, 512, 10))
    conv, products = 0, 0
    for n, channels, d in levels:
        c = channels // 4
        conv += n * (2 * channels * c + kernels * (2 * c * d + c * channels))
        conv += kernels * c * c * {"visible": n, "latent": d, None: 0}[weight]
        products += kernels * (2 * n * d * c + 2 * d * d * c)
    counted = added(context="latentgnn", kernels=kernels, weight=weight)
    assert (counted["conv_macs"], counted["product_macs"]) == (conv, products)


def test_sign_and_temperature_add_a_number_a_kernel():
    plain = added(context="latentgnn", kernels=3)
    counted = added(context="latentgnn", kernels=3, signed=True, learned_temperature=True)
    assert counted == plain | {"parameters": plain["parameters"] + 4 * 3}


@pytest.mark.parametrize(("stage", "channels", "d", "n"), [(3, 512, 150, 4 * 3559), (4, 1024, 100, 3559)])
@pytest.mark.parametrize(("kernels", "stride"), [(1, 16), (2, 8)])
def test_latentgnn_in_mask_rcnn(stage, channels, d, n, kernels, stride):
    c = channels // stride
    assert complexity.count_in_mask_rcnn(MaskRCNNConfig(stages=(stage,), kernels=kernels, stride=stride)) == {
        "parameters": 2 * channels * c + kernels * (2 * c * d + c * c + c * channels) + 1,
        "conv_macs": n * (2 * channels * c + kernels * (2 * c * d + c * c + c * channels)),
        "product_macs": kernels * (2 * n * d * c + 2 * d * d * c),
    }


def test_non_local_in_mask_rcnn():
    n = 3559
    assert complexity.count_in_mask_rcnn(MaskRCNNConfig(context="non_local", stages=(4,))) == {
        "parameters": 4 * 1024 * 512 + 2 * 1024,
        "conv_macs": n * 4 * 1024 * 512,
        "product_macs": 2 * n * n * 512,
    }


def test_three_stages_cost_what_each_of_them_does():
    together = complexity.count_in_mask_rcnn(MaskRCNNConfig(stages=(3, 4, 5)))
    each = [complexity.count_in_mask_rcnn(MaskRCNNConfig(stages=(stage,))) for stage in (3, 4, 5)]
    assert together == {key: sum(counted[key] for counted in each) for key in together}
    assert together["parameters"] == 59_777 + 213_505 + 815_617


class Own(nn.Module):
    """Attention that multiplies its weights in each of the usual ways."""

    def __init__(self, channels):
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 4, batch_first=True)
        self.linear, self.conv = nn.Linear(channels, channels, bias=False), nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + F.scaled_dot_product_attention(x, x, x)
        return x + self.conv(self.linear(x).transpose(1, 2)).transpose(1, 2)


@pytest.fixture
def own_context(monkeypatch):
    monkeypatch.setitem(CONTEXTS, "own", Own)


def test_a_context_layer_of_ones_own_is_counted(own_context):
    sizes = ((1024, 64), (256, 128), (64, 256), (16, 512))
    counted = added(context="own")
    assert counted["parameters"] == sum(6 * c * c + 5 * c for _, c in sizes)
    assert counted["conv_macs"] == sum(6 * n * c * c for n, c in sizes)  # 4 of the attention, linear, conv
    assert counted["product_macs"] == sum(4 * n * n * c for n, c in sizes)  # twice x^T x and A x


def test_a_context_layer_of_ones_own_has_a_line(own_context):
    assert [row for row in complexity.rows() if row not in complexity.ROWS] == [
        complexity.Row("  + own", PointNet2Config(21, context="own"), "PointNet++ SSG")
    ]


def test_prints_every_row_and_writes_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(complexity, "count", lambda config: PLAIN)
    monkeypatch.setattr(sys, "argv", ["complexity.py", "--json", str(tmp_path / "complexity.json")])
    complexity.main()
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "complexity.json").read_text())
    names = [*(row.name.strip() for row in complexity.ROWS), *complexity.IMAGE_ROWS]
    assert [row["network"] for row in written] == names
    assert all(name in printed for name in names)
    assert all(row.paper_parameters in printed for row in complexity.ROWS)
    assert "1,244,266,496" in printed
