"""The README's Python examples run as they stand."""

import re
from pathlib import Path

import pytest
import torch

from models import checkpoint, pointnet2

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (Path(__file__).parents[1] / "README.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(number) for number in range(len(EXAMPLES))])
def test_an_example_runs(example, tmp_path, monkeypatch):
    model = pointnet2.build(pointnet2.PointNet2Config(context="latentgnn"), seed=0)
    checkpoint.export(tmp_path / "runs" / "rooms" / "export", model)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    if "logits" in names:
        assert names["logits"].shape == (2, 8192, 21)
        assert checkpoint.weights_sha256(names["network"]) == checkpoint.weights_sha256(model)


def test_what_the_example_inserts_is_trained():
    """After a step in which its scale moved, the layer counts."""
    (example,) = [example for example in EXAMPLES if "insert_context" in example]
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    network, images = names["network"], names["images"]
    network(images).square().mean().backward()
    assert network[1].context.scale.grad.abs() > 0
    with torch.no_grad():
        network[1].context.scale.fill_(1)
        assert not torch.allclose(network(images), names["before"])
