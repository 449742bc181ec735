"""Which points each latent node of a LatentGNN gathers from (psi_v2l) and gives to (psi_l2v), in one chunk of a scene.

    python scripts/experiments/latent_nodes.py --checkpoint runs/x/checkpoints/last.pt --data datasets/scannet

The chunk is one of the scene's evaluation tiles, 8192 points; a layer's points are the 1024, 256, 64 or 16 that its
set abstraction chooses of them. Written for every layer and kernel, of the nodes that give most:
layer<L>_kernel<K>.png   a page: the chunk, and for each node its points, gathered from above and given to below
layer<L>_kernel<K>.ply   the same arrangement in 3-D, with the properties `weight` and `node`
tensorboard/             the pages, and the chunk in 3-D; the step is the rank of the node
and latent_nodes.txt     of all nodes: how many are active, over how many points they spread, how alike they are
"""

import argparse
import os
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import imsave
from matplotlib.patches import Patch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import ops
from data.atomic_write import replacing
from data.coloured_ply import UNLABELLED, class_colours, colours_of_scene, write_coloured
from data.datasets import SceneFile, WholeScenes, scene_files
from data.labels import LabelSpace
from data.scenes import SceneError, read_manifest
from models.latentgnn import LatentGNN
from models.pointnet2 import CENTRES, PointNet2
from models.textbook import latentgnn_affinities, latentgnn_graph
from scripts.render_scene import AZIMUTH, view_axes
from training import checkpoint
from training.arguments import whole_number
from training.board import add_points
from training.run_folder import run_folder_of
from training.stopping import error_line

LAYERS = tuple(range(1, 1 + len(CENTRES)))
DIRECTIONS = {"gathers from": r"$\psi_{v2l}$", "gives to": r"$\psi_{l2v}$"}
# Perceptually even, from pale to dark; without the ends of magma, which are lost on white and on black
COLOUR_MAP = ListedColormap(colormaps["magma_r"](np.linspace(0.08, 0.85, 256)))
REST = 222  # grey of the chunk's points where they carry no weight
GAP = 0.4  # m, between the copies of the chunk in a PLY file
PANEL, PAGE_DPI = 2.1, 90  # inches, the width of a node's panel
MARGIN = 0.05  # m, around the chunk on the page
LARGEST_DOT = 30  # points^2, of layer 1
RANDOM = 1 / np.pi  # (E a)^2 / E a^2 of a = ReLU(standard normal): how random affinities spread, and how alike they are

HEADER = """\
                                                                active         spread                    alike
layer kernel points nodes   lambda  update  same  rank   gather  give  gather  give  per point  gather  give"""
ROW = "{:5} {:6} {:6} {:5} {:>8} {:>7} {:>5} {:>5} {:8} {:5} {:>7} {:>5} {:>10} {:>7} {:>5}"
LEGEND = f"""\
update     size of what the layer adds to the features, lambda X~, beside theirs
same       share of it (of its square) that all points get alike; at 100 % a constant is added to the chunk
rank       effective rank of A = psi_l2v^T F psi_v2l, (sum s^2)^2 / sum s^4 of its singular values s: in how many ways
           what points receive can differ; at 1 all receive the same mean, more or less of it
active     nodes with a weight w other than 0 on some point, in gathering (psi_v2l) and in giving (psi_l2v)
spread     effective number of points of such a node, (sum w)^2 / sum w^2, as a share of the layer's points
per point  effective number of nodes that give to a point
alike      mean cosine between the weights of two active nodes; 1 if all do the same
Random weights, ReLU of normals: rank 1.0, spread {RANDOM:.0%}, per point {RANDOM:.2f} x nodes, alike {RANDOM:.2f}
Weights with a sign (signed layers) are shown by their size, which is what spreads; rank and alike take the sign"""


@dataclass(frozen=True)
class Chunk:
    """What was drawn from one tile: N points, which are P vertices of the scene."""

    name: str
    points: Tensor  # (N, 3 + F) float32, as the network takes them
    xyz: np.ndarray  # (P, 3) float32, metres
    colour: np.ndarray  # (P, 3) uint8
    label: np.ndarray  # (P,) uint16 ids; of a scan without labels that of no class
    space: LabelSpace


@dataclass(frozen=True)
class Layer:
    """The affinities of a LatentGNN on its M points of a chunk: K kernels of d nodes, and what comes of them."""

    number: int  # 1 to 4
    xyz: np.ndarray  # (M, 3) float32, metres
    psi_v2l: np.ndarray  # (K, d, M) float32, at least 0 unless the layer is signed
    psi_l2v: np.ndarray  # (K, d, M) float32, at least 0 unless the layer is signed
    f: np.ndarray  # (K, d, d) float32: what the nodes take from each other; rows sum to 1
    scale: float  # lambda
    update: float  # |lambda X~| / |X|, of all points together
    same: float  # share of |lambda X~|^2 that is equal at all points; NaN where nothing is added


def find_scene(data_dir: Path, name: str | None) -> SceneFile:
    """The scene of that name in any split, by default the first for validation. SceneError if it is not there."""
    manifest = read_manifest(data_dir)
    splits = {known: split for split in ("val", "train", "test") for known in manifest["splits"][split]}
    if name is not None and name not in splits:
        there = ", ".join(list(splits)[:3])
        raise SceneError(f"{data_dir}: there is no scene '{name}'; manifest.json lists those there are, as {there}")
    scenes = scene_files(data_dir, manifest, [splits.get(name, "val")])
    return next(scene for scene in scenes if name in (None, scene.name))


def cut_chunk(scene: SceneFile, config: dict, space: LabelSpace, tile: int | None, seed: int) -> Chunk:
    """The points of a tile of the scene, by default of the one with most classes (of these, with most vertices).

    Args: config of the training run, for its label policy and point features; seed of the drawing, as in evaluation.
    Raises SceneError if the scene has no tile of that number.
    """
    is_labelled = bool(scene.histogram)
    whole = WholeScenes.as_trained([scene], seed, config, space, covering=not is_labelled)[0]
    label = whole.label if is_labelled else np.full(len(whole.points), space.id_of[0])
    draws = whole.tiles or whole.covering
    if not draws:
        raise SceneError(f"{scene.path}: has no vertices that the network would see; choose another --scene")
    drawn = [np.unique(draw.index) for draw in draws]
    if tile is None:
        tile = max(range(len(draws)), key=lambda number: (len(np.unique(label[drawn[number]])), len(drawn[number])))
    if tile >= len(draws):
        raise SceneError(f"{scene.path}: has no tile {tile}; its tiles are 0 to {len(draws) - 1}")
    seen = drawn[tile]
    return Chunk(
        f"{scene.name}, tile {tile}",
        torch.from_numpy(whole.points[draws[tile].index]),
        whole.points[seen, :3],
        colours_of_scene(scene.path)[seen],
        label[seen],
        space,
    )


@torch.inference_mode()
def context_passes(model: PointNet2, points: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """The four context layers of a network, each with its input and output (1, M, C) for a chunk (N, 3 + F)."""
    passes = []
    contexts = [model.get_submodule(f"context{number}") for number in LAYERS]
    hooks = [layer.register_forward_hook(lambda *of_layer: passes.append(of_layer)) for layer in contexts]
    model(points.unsqueeze(0))
    for hook in hooks:
        hook.remove()
    return [(layer, x, y) for layer, (x,), y in passes]


@torch.inference_mode()
def affinities_of(layer: LatentGNN, x: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """psi_v2l and psi_l2v (K, d, M) and F (K, d, d), float32, of a layer on the features (1, M, C) of one chunk."""
    x_v2l, psi_v2l, psi_l2v = latentgnn_affinities(layer, x.transpose(1, 2).contiguous())  # psi (1, K, d, M)
    f = [latentgnn_graph(layer, k, x_v2l, psi_v2l[:, k])[1][0] for k in range(layer.kernels)]  # K of (d, d)
    return psi_v2l[0].cpu().numpy(), psi_l2v[0].cpu().numpy(), torch.stack(f).cpu().numpy()


@torch.inference_mode()
def look(model: PointNet2, points: Tensor) -> list[Layer]:
    """What the four LatentGNN layers of a network do with a chunk (N, 3 + F)."""
    centres = ops.furthest_point_sample(points[None, :, :3].contiguous(), CENTRES[0])[0]  # (1024,)
    layers = []
    for number, m, (context, x, y) in zip(LAYERS, CENTRES, context_passes(model, points), strict=True):
        psi_v2l, psi_l2v, f = affinities_of(context, x)
        added = (y - x)[0]  # (M, C)
        size, mean_size = added.norm().item(), added.mean(0).norm().item() * m**0.5
        layers.append(
            Layer(
                number,
                points[centres[:m], :3].numpy(),
                psi_v2l,
                psi_l2v,
                f,
                context.scale.item(),
                size / x.norm().item(),
                (mean_size / size) ** 2 if size else float("nan"),
            )
        )
    return layers


def spread(weights: np.ndarray, axis: int) -> np.ndarray:
    """Effective number of weights along an axis: n if n of them are of equal size and the others 0; 0 of none."""
    total, squares = np.abs(weights).sum(axis, dtype=np.float64), np.square(weights, dtype=np.float64).sum(axis)
    return total**2 / np.where(squares > 0, squares, 1)


def likeness(weights: np.ndarray) -> float:
    """Mean cosine between two different rows of weights (d, M) that are not 0; NaN if fewer than two are not."""
    rows = weights[weights.any(1)].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = len(rows) * (len(rows) - 1)
    return (np.square(rows.sum(0)).sum() - len(rows)) / pairs if pairs else float("nan")


def rank(v2l: np.ndarray, f: np.ndarray, l2v: np.ndarray) -> float:
    """Effective rank of A = l2v^T f v2l (M, M): `spread` of its squared singular values. v2l, l2v (d, M), f (d, d)."""
    v2l, f, l2v = (matrix.astype(np.float64) for matrix in (v2l, f, l2v))
    squares = np.linalg.eigvals(l2v @ l2v.T @ f @ v2l @ v2l.T @ f.T).real  # those of A A^T that are not 0
    return float(spread(np.maximum(squares, 0), 0))


def table(layers: list[Layer]) -> str:
    """A line for each layer and kernel, and what the columns mean."""
    lines = [HEADER]
    for layer in layers:
        for kernel, (v2l, l2v, f) in enumerate(zip(layer.psi_v2l, layer.psi_l2v, layer.f, strict=True), start=1):
            nodes, points = v2l.shape
            active = [weights[weights.any(1)] for weights in (v2l, l2v)]
            spreads = [100 * spread(rows, 1).mean() / points if len(rows) else np.nan for rows in active]
            cells = [layer.number, kernel, points, nodes, f"{layer.scale:.4f}", f"{100 * layer.update:.1f} %"]
            cells += [shown(100 * layer.same, "{:.0f} %"), f"{rank(v2l, f, l2v):.1f}", *map(len, active)]
            cells += [*(shown(share, "{:.0f} %") for share in spreads), f"{spread(l2v, 0).mean():.1f}"]
            cells += [shown(likeness(weights), "{:.2f}") for weights in (v2l, l2v)]
            lines.append(ROW.format(*cells))
    return "\n".join([*lines, "", LEGEND, ""])


def shown(value: float, form: str) -> str:
    """The value in the form of a format string, "-" for NaN."""
    return "-" if np.isnan(value) else form.format(value)


def strongest(layer: Layer, kernel: int, nodes: int) -> np.ndarray:
    """The nodes that give most, of those that gather from any point: at most so many (n,), strongest first."""
    giving = np.square(layer.psi_l2v[kernel]).sum(1) * layer.psi_v2l[kernel].any(1)  # (d,)
    order = np.argsort(-giving, kind="stable")[:nodes]
    return order[giving[order] > 0]


def shades(weights: np.ndarray) -> np.ndarray:
    """Weights (...) -> colours (..., 3) uint8: the darker the larger, as a share of the largest; grey for 0."""
    sizes = np.abs(weights)
    colours = 255 * COLOUR_MAP(sizes / (sizes.max() or 1))[..., :3]
    return np.where(sizes[..., None] > 0, colours, REST).astype(np.uint8)


def draw_page(chunk: Chunk, layer: Layer, kernel: int, nodes: np.ndarray) -> np.ndarray:
    """A kernel's page (H, W, 3) uint8: the chunk on the left, and beside it `nodes` (n,) in columns."""
    view, centre = best_view(chunk.xyz), (chunk.xyz.min(0) + chunk.xyz.max(0)) / 2
    flat, centres = (chunk.xyz - centre) @ view, (layer.xyz - centre) @ view  # metres right, down, towards the camera
    columns, (width, height) = max(len(nodes), 1), np.ptp(flat[:, :2], axis=0) + 2 * MARGIN
    size = (columns + 1.3) * PANEL, 2 * PANEL * height / width + 1.9
    figure = Figure(figsize=size, dpi=PAGE_DPI, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.3, columns))
    draw_chunk(left, chunk, flat)
    of_kernel = layer.psi_v2l[kernel], layer.psi_l2v[kernel]
    draw_nodes(right.subplots(2, columns, squeeze=False), flat, centres, of_kernel, nodes)
    bar = right.colorbar(
        ScalarMappable(cmap=COLOUR_MAP), ax=right.axes, location="bottom", shrink=0.5, aspect=40, pad=0.02
    )
    label = "weight, as a share of the node's largest; a ring is a point of the layer without weight"
    bar.set_label(textwrap.fill(label, int(11 * PANEL * columns)))
    gather, give = (psi.any(1).sum() for psi in of_kernel)
    title = (
        f"LatentGNN layer {layer.number}, kernel {kernel + 1}: of {layer.psi_v2l.shape[1]} latent nodes {gather} "
        f"gather and {give} give in this chunk",
        f"shown: {len(nodes)}, those that give most; lambda = {layer.scale:.3f}",
    )
    letters = int(10 * figure.get_figwidth())  # a line's
    figure.suptitle("\n".join(textwrap.fill(line, letters) for line in title), fontsize=12)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def panel(axis: Axes, flat: np.ndarray, title: str, colour: np.ndarray, size: float) -> None:
    """Dots of the chunk's points flat (P, 3), the nearest on top: metres right, down and towards the camera.

    colour: (P, 3) uint8, or (1, 3) of all points.
    """
    far_first = np.argsort(flat[:, 2])
    colour = colour[far_first] if len(colour) > 1 else colour
    low, high = flat[:, :2].min(0) - MARGIN, flat[:, :2].max(0) + MARGIN
    axis.scatter(*flat[far_first, :2].T, s=size, c=colour / 255, linewidths=0)
    axis.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal", xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)
    axis.spines[:].set_visible(False)


def draw_chunk(figure: SubFigure, chunk: Chunk, flat: np.ndarray) -> None:
    """The chunk's own colours, its classes and their legend, and how long half a metre is."""
    upper, lower = figure.subplots(2, 1)
    panel(upper, flat, f"{chunk.name}\ncolours", chunk.colour, 3)
    space, classes = chunk.space, np.unique(chunk.space.class_of[chunk.label])
    panel(lower, flat, "ground truth" if classes.any() else "no ground truth", class_colours(chunk.label, space), 3)
    left, bottom = upper.get_xlim()[0], upper.get_ylim()[0]
    upper.plot((left + 0.1, left + 0.6), [bottom - 0.1] * 2, color="black")
    upper.text(left + 0.35, bottom - 0.15, "0.5 m", ha="center", va="bottom", fontsize=9)
    legend = [Patch(color=space.palette[k] / 255, label=space.names[k]) for k in classes if k]
    legend += [Patch(color=np.array(UNLABELLED) / 255, label="other")] * (0 in classes)
    figure.legend(handles=legend, loc="outside lower center", ncols=2, frameon=False, fontsize=8, handlelength=1)


def draw_nodes(grid: np.ndarray, flat: np.ndarray, centres: np.ndarray, of_kernel: tuple, nodes: np.ndarray) -> None:
    """A column of the grid of axes (2, n) for each node; of_kernel: psi_v2l and psi_l2v (d, M), for its two rows."""
    m, grey = len(centres), np.full((1, 3), REST)
    largest = LARGEST_DOT * (CENTRES[0] / m) ** 0.5  # points^2: the fewer, the larger
    for row, (psi, (direction, symbol)) in enumerate(zip(of_kernel, DIRECTIONS.items(), strict=True)):
        for axis, node in zip(grid[row], nodes, strict=False):
            share = np.abs(psi[node])
            share /= share.max() or 1
            title = f"\u2248 {spread(psi[node], 0):.0f} of {m} points"
            panel(axis, flat, title if row else f"node {node + 1}\n{title}", grey, 1)
            x, y, _ = centres[share == 0].T
            axis.scatter(x, y, s=largest / 10, facecolors="none", edgecolors="0.6", linewidths=0.5)
            order = np.argsort(share)[np.sum(share == 0) :]  # the largest is drawn last
            dots = centres[order, 0], centres[order, 1], largest * share[order], share[order]
            axis.scatter(*dots, cmap=COLOUR_MAP, vmin=0, vmax=1, linewidths=0, clip_on=False)
        grid[row, 0].set_ylabel(f"{direction}  {symbol}", fontsize=14)
    if not len(nodes):
        panel(grid[0, 0], flat, "no node is active", grey, 1)
        grid[1, 0].axis("off")


def best_view(xyz: np.ndarray) -> np.ndarray:
    """view_axes from that of four corners before which the points (P, 3) are lowest, so that walls stand behind."""
    views = [view_axes(AZIMUTH + quarter * np.pi / 2) for quarter in range(4)]
    centred = xyz - xyz.mean(0)
    return min(views, key=lambda axes: np.mean(centred[:, 2] * (centred[:, :2] @ axes[:2, 2])))


def write_ply(path: Path, chunk: Chunk, nodes: np.ndarray, weights: np.ndarray) -> None:
    """Copies of the chunk, arranged as on the page along x and y. Whole or not at all.

    Each point is coloured by its weight, of weights (2, n, P); properties: `weight`, and `node`, which is 0 for the two
    copies that show the chunk's own colours and classes.
    """
    copies, step = [], np.ptp(chunk.xyz, axis=0) + GAP
    colours = chunk.colour, class_colours(chunk.label, chunk.space)
    for row, (own, of_row) in enumerate(zip(colours, weights, strict=True)):
        columns = [(0, own, np.zeros(len(own), np.float32)), *zip(nodes + 1, map(shades, of_row), of_row, strict=True)]
        for column, (node, colour, weight) in enumerate(columns):
            xyz = chunk.xyz + np.float32(step * (column, -row, 0))
            copies.append((xyz, colour, weight, np.full(len(xyz), node, np.int32)))
    xyz, colour, weight, node = map(np.concatenate, zip(*copies, strict=True))
    with replacing(path) as temporary:
        write_coloured(temporary, xyz, colour, weight=weight, node=node)


def open_board(folder: Path, chunk: Chunk) -> SummaryWriter:
    """TensorBoard's view, with the chunk's own colours and classes."""
    for old in folder.glob("events.out.tfevents.*"):  # of an earlier call: TensorBoard would show both
        old.unlink()
    board = SummaryWriter(str(folder))
    add_points(board, "chunk/colours", chunk.xyz, chunk.colour, 0)
    add_points(board, "chunk/ground_truth", chunk.xyz, class_colours(chunk.label, chunk.space), 0)
    return board


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path, help="last.pt or best.pt of a run with LatentGNN")
    parser.add_argument("--data", type=Path, help="preprocessed scenes (default: those of the training run)")
    parser.add_argument("--scene", help="a scene's name (default: the first for validation)")
    parser.add_argument("--tile", type=whole_number(0), help="of the scene (default: the one with most classes)")
    parser.add_argument("--out", type=Path, help="folder (default: latent_nodes/<scene> in the run's)")
    parser.add_argument("--layer", type=int, nargs="+", choices=LAYERS, default=LAYERS, help="default: all four")
    parser.add_argument("--nodes", type=whole_number(1), default=6, help="how many to show of each kernel (default: 6)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the points drawn from the tile")
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except (checkpoint.CheckpointError, SceneError, ops.cpu.CompileError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    content = checkpoint.read(args.checkpoint)
    model = checkpoint.build(content, args.checkpoint)
    if not isinstance(model.context1, LatentGNN):
        raise checkpoint.CheckpointError(
            f"{args.checkpoint}: its network has no LatentGNN (context: {model.config.context}); "
            "take one trained with --model latentgnn"
        )
    scene = find_scene(args.data or Path(content["config"]["data"]), args.scene)
    chunk = cut_chunk(scene, content["config"], content["label_space"], args.tile, args.seed)
    layers = [layer for layer in look(model, chunk.points) if layer.number in args.layer]
    out = args.out or run_folder_of(args.checkpoint) / "latent_nodes" / scene.name
    out.mkdir(parents=True, exist_ok=True)
    text = f"{args.checkpoint} in {chunk.name}, seed {args.seed}\n\n{table(layers)}"
    with replacing(out / "latent_nodes.txt") as temporary:
        temporary.write_text(text)
    print(text)

    board = open_board(out / "tensorboard", chunk)
    kernels = [(layer, kernel) for layer in layers for kernel in range(model.config.kernels)]
    for layer, kernel in tqdm(kernels, desc="pages", leave=False, disable=None):
        name, nodes = f"layer{layer.number}_kernel{kernel + 1}", strongest(layer, kernel, args.nodes)
        page = draw_page(chunk, layer, kernel, nodes)
        with replacing(out / f"{name}.png") as temporary:
            imsave(temporary, page, format="png")
        board.add_image(name, page, dataformats="HWC")
        nearest = torch.cdist(torch.from_numpy(chunk.xyz), torch.from_numpy(layer.xyz)).argmin(1).numpy()  # (P,)
        weights = np.stack((layer.psi_v2l, layer.psi_l2v))[:, kernel, nodes][..., nearest]  # (2, n, P)
        write_ply(out / f"{name}.ply", chunk, nodes, weights)
        for direction, of_direction in zip(DIRECTIONS, weights, strict=True):
            for place, weight in enumerate(of_direction, start=1):
                add_points(board, f"{name}/{direction.replace(' ', '_')}", chunk.xyz, shades(weight), place)
    board.close()
    print(f"pictures and PLY files: {out}\nin 3-D: tensorboard --logdir {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
