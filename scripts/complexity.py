"""Parameters and multiply-adds of the networks in the tables of the LatentGNN paper.

Table 3, PointNet++ on ScanNet, beside the paper's figures; of Tables 1 and 2, Mask R-CNN on COCO, the added layers.
Counted on the models themselves, on one chunk or image, in the textbook form of models/textbook.py (the form that is
executed needs fewer), with torch.utils.flop_counter. 1x1 convolutions ("conv") and batched matrix products ("products":
points x points or points x latent nodes) are listed apart. One multiply-add is one MAC, two FLOPs. Not counted: batch
norm, activations, normalisation, the maximum, the interpolation and the search for neighbours.

A context layer of your own in models/context.py has a line of its own, with the config's defaults. It is
counted as it is executed and sorted by operator, for which factor is a weight cannot be seen: convolutions, linear
layers and products of two matrices are "conv", batched products (torch.bmm, einsum) and attention "products".
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data.chunks import POINTS_PER_CHUNK
from data.labels import SCANNET20
from models import textbook
from models.context import CONTEXTS
from models.mask_rcnn import MaskRCNNConfig, context_layers
from models.pointnet2 import PointNet2Config, build

BINARY_MILLION = 2**30 / 1000  # MACs; in this unit the paper's figures come closest


class Row(NamedTuple):
    """A network, the one it extends, and what the paper prints for the difference."""

    name: str
    config: PointNet2Config
    base: str | None = None
    paper_parameters: str = "-"
    paper_macs: str = "-"


network = functools.partial(PointNet2Config, SCANNET20.num_classes)
ROWS = (
    Row("PointNet++ SSG", network()),
    Row("  + mean feature", network(context="mean_feature"), "PointNet++ SSG"),
    Row("  + double attention", network(context="double_attention"), "PointNet++ SSG"),
    Row("  + induced points", network(context="induced_points"), "PointNet++ SSG"),
    Row("  + NL block", network(context="non_local"), "PointNet++ SSG", "+0.70M", "+31M"),
    Row("  + LatentGNN K=1", network(context="latentgnn"), "PointNet++ SSG", "+0.31M", "+15M"),
    Row("      latent-side W", network(context="latentgnn", weight="latent"), "PointNet++ SSG"),
    Row("      without W", network(context="latentgnn", weight=None), "PointNet++ SSG"),
    Row("  + LatentGNN K=3", network(context="latentgnn", kernels=3), "PointNet++ SSG", "+0.54M", "+30M"),
    Row("      latent-side W", network(context="latentgnn", kernels=3, weight="latent"), "PointNet++ SSG"),
    Row("PointNet++ MSG", network(grouping="msg")),
)


def rows() -> list[Row]:
    """Those of the table, and one for every other context layer that there is."""
    own = CONTEXTS.keys() - {row.config.context for row in ROWS}
    added = [Row(f"  + {name}", network(context=name), ROWS[0].name) for name in sorted(own)]
    return [*ROWS[:-1], *added, ROWS[-1]]  # MSG last


CELLS = 3559  # of a stage 4 map, where the paper's FLOPs come closest: an image of some 800 x 1140 pixels
PLACES = {
    "stage 3": {"stages": (3,)},
    "stage 4": {"stages": (4,)},
    "stage 4, K = 2": {"stages": (4,), "kernels": 2},
    "stage 4, K = 3": {"stages": (4,), "kernels": 3},
    "stage 5": {"stages": (5,)},
    "stages 3, 4 and 5": {"stages": (3, 4, 5)},
}
IMAGE_ROWS = {"NL block, stage 4": {"context": "non_local", "stages": (4,)}} | {
    f"LatentGNN of stride {stride:2}, {name}": {**place, "stride": stride}
    for stride in (16, 8)
    for name, place in PLACES.items()
}
IMAGE_NOTE = """\
The paper's own figures of these two tables were not at hand for this script. Reported of them: the parameters are those
of stride 16 within 2 %; the FLOPs are nearer to stride 8, summed over the kernels, at this N; no one formula gives all
of them, and the printed 3.59 is not the sum of its own rows. Here the three stages together take, in billions of MACs,
{}. No AP is claimed: nothing here was trained on COCO."""


def count(config: PointNet2Config, points: int = POINTS_PER_CHUNK) -> dict[str, int]:
    """Parameters, and MACs of one cloud: {"parameters", "conv_macs", "product_macs"}."""
    model = build(config, seed=0).eval()
    cloud = torch.rand(1, points, 3 + config.extra_channels, generator=torch.Generator().manual_seed(0))
    return {"parameters": _parameters(model), **_macs(lambda: textbook.pointnet2_forward(model, cloud))}


def count_in_mask_rcnn(config: MaskRCNNConfig) -> dict[str, int]:
    """The same of the context layers that `config` adds to Mask R-CNN, for one image of CELLS cells at stage 4."""
    with torch.device("meta"):
        layers = context_layers(config)
        total = dict.fromkeys(("parameters", "conv_macs", "product_macs"), 0)
        for stage, layer in zip(config.stages, layers.values(), strict=True):
            cells = torch.empty(1, layer.channels, -(-CELLS * 4 // 4 ** (stage - 3)))  # a quarter from stage to stage
            form = functools.partial(textbook.context_forward, layer, cells)
            counted = {"parameters": _parameters(layer), **_macs(form)}
            total = {key: value + counted[key] for key, value in total.items()}
    return total


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _macs(forward: Callable) -> dict[str, int]:
    # With gradients, and without fused attention: of the operators that take their place otherwise some count nothing
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        forward()
    macs = {operator.__name__: flops // 2 for operator, flops in counter.get_flop_counts()["Global"].items()}
    conv = sum(macs.pop(operator, 0) for operator in ("convolution", "mm", "addmm"))
    products = sum(macs.pop(operator, 0) for operator in ("bmm", "baddbmm"))
    if macs:
        raise RuntimeError(f"the network uses operators that this count does not sort: {', '.join(macs)}")
    return {"conv_macs": conv, "product_macs": products}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the exact counts to FILE")
    arguments = parser.parse_args()

    print(__doc__)
    points = f"{POINTS_PER_CHUNK} points, x y z, {SCANNET20.num_classes} outputs"
    print(f"{points}. Indented rows: what is added to PointNet++ SSG.")
    print("2^30/1000: conv MACs in this unit; there, with W on the latent side, the paper's figures come within 2 %.\n")
    header = "network", "parameters", "paper", "conv MACs", "2^30/1000", "paper", "product MACs", "conv + products"
    table = "{:<20} {:>11} {:>7}  {:>13} {:>9} {:>6}  {:>13} {:>15}".format
    print(table(*header))
    counts, results = {}, []
    for row in rows():
        counted = count(row.config)
        if row.base is None:
            counts[row.name] = counted
        else:
            counted = {key: value - counts[row.base][key] for key, value in counted.items()}
        parameters, conv, products = counted.values()
        binary = f"{conv / BINARY_MILLION:.2f}"
        cells = f"{parameters:,}", row.paper_parameters, f"{conv:,}", binary, row.paper_macs
        print(table(row.name, *cells, f"{products:,}", f"{conv + products:,}"))
        paper = {"paper_parameters": row.paper_parameters, "paper_macs": row.paper_macs}
        results.append({"network": row.name.strip(), "added_to": row.base, **counted, **paper})
    print("\nNo configuration gives all six of the paper's figures; these are exact counts of the models as built.")

    print(f"\nTables 1 and 2: added to Mask R-CNN with any of the three ResNets; N = {CELLS} cells at stage 4.")
    table = "{:<43} {:>10} {:>13} {:>14} {:>15}".format
    print(table("layers", "parameters", "conv MACs", "product MACs", "conv + products"))
    together = []
    for name, options in IMAGE_ROWS.items():
        counted = count_in_mask_rcnn(MaskRCNNConfig(**options))
        parameters, conv, products = counted.values()
        print(table(name, *(f"{value:,}" for value in (parameters, conv, products, conv + products))))
        results.append({"network": name, "added_to": "Mask R-CNN", **counted})
        if options["stages"] == (3, 4, 5):
            together.append(f"{(conv + products) / 1e9:.2f} at stride {options['stride']}")
    print(f"\n{IMAGE_NOTE.format(' and '.join(together))}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
