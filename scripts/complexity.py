"""Parameters and multiply-adds of every network in Table 3 of the LatentGNN paper, beside the paper's figures.

Counted on the models themselves, on one chunk, in the textbook form of models/reference.py (the form that is executed
needs fewer), with torch.utils.flop_counter. 1x1 convolutions ("conv") and batched matrix products ("products": points x
points or points x latent nodes) are listed apart. One multiply-add is one MAC, two FLOPs. Not counted: batch norm,
activations, normalisation, the maximum, the interpolation and the search for neighbours.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.flop_counter import FlopCounterMode

from data.chunks import POINTS_PER_CHUNK
from models import reference
from models.pointnet2 import PointNet2Config, build

BINARY_MILLION = 2**30 / 1000  # MACs; in this unit the paper's figures come closest


class Row(NamedTuple):
    """A network, the one it extends, and what the paper prints for the difference."""

    name: str
    config: PointNet2Config
    base: str | None = None
    paper_parameters: str = "-"
    paper_macs: str = "-"


ROWS = (
    Row("PointNet++ SSG", PointNet2Config()),
    Row("  + NL block", PointNet2Config(context="non_local"), "PointNet++ SSG", "+0.70M", "+31M"),
    Row("  + LatentGNN K=1", PointNet2Config(context="latentgnn"), "PointNet++ SSG", "+0.31M", "+15M"),
    Row("      latent-side W", PointNet2Config(context="latentgnn", weight="latent"), "PointNet++ SSG"),
    Row("      without W", PointNet2Config(context="latentgnn", weight=None), "PointNet++ SSG"),
    Row("  + LatentGNN K=3", PointNet2Config(context="latentgnn", kernels=3), "PointNet++ SSG", "+0.54M", "+30M"),
    Row("      latent-side W", PointNet2Config(context="latentgnn", kernels=3, weight="latent"), "PointNet++ SSG"),
    Row("PointNet++ MSG", PointNet2Config(grouping="msg")),
)


def count(config: PointNet2Config, points: int = POINTS_PER_CHUNK) -> dict[str, int]:
    """Parameters, and MACs of one cloud: {"parameters", "conv_macs", "product_macs"}."""
    model = build(config, seed=0).eval()
    cloud = torch.rand(1, points, 3 + config.extra_channels, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.pointnet2_forward(model, cloud)
    macs = {operator.__name__: flops // 2 for operator, flops in counter.get_flop_counts()["Global"].items()}
    conv, products = macs.pop("convolution", 0), macs.pop("bmm", 0)
    if macs:
        raise RuntimeError(f"the textbook form uses operators that this count does not sort: {', '.join(macs)}")
    return {"parameters": sum(p.numel() for p in model.parameters()), "conv_macs": conv, "product_macs": products}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the exact counts to FILE")
    arguments = parser.parse_args()

    print(__doc__)
    print(f"{POINTS_PER_CHUNK} points, x y z, 21 classes. Indented rows: what is added to PointNet++ SSG.")
    print("2^30/1000: conv MACs in this unit; there, with W on the latent side, the paper's figures come within 2 %.\n")
    header = "network", "parameters", "paper", "conv MACs", "2^30/1000", "paper", "product MACs", "conv + products"
    table = "{:<20} {:>11} {:>7}  {:>13} {:>9} {:>6}  {:>13} {:>15}".format
    print(table(*header))
    counts, results = {}, []
    for row in ROWS:
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
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
