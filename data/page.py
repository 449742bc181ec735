"""A page to look at a scan: one HTML file that needs no network, in 3-D, by plotly.js.

V vertices, C classes.
"""

from collections.abc import Mapping
from html import escape
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from data.atomic_write import replacing
from data.labels import LabelSpace

MOST_POINTS = 300_000  # shown; more are slow on a laptop
SIZE = 2.5  # pixels
EYE = (0.8, -0.8, 1.1)  # from above a corner; the scan is about 1 across
SURE = {"colorscale": "Viridis", "cmin": 0, "cmax": 1, "showscale": True}  # of confidences; the colour-blind tell them
INSTALL = "pip install -r scripts/requirements-formats.txt"
FOOTER = "Drawn by plotly.js (MIT licence, Plotly, Inc.), which is a part of this file."


class PageError(Exception):
    """The message says what is missing, and what to do."""


def need_plotly() -> None:
    """Raises PageError without it; for before the work of which a page is the end."""
    if not find_spec("plotly"):
        raise PageError(f"a page to look at needs plotly: {INSTALL}")


def write_page(
    path: Path,
    title: str,
    xyz: np.ndarray,
    space: LabelSpace,
    classes: Mapping[str, np.ndarray],
    colour: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
) -> str:
    """Write the page of a scan, with a button for each way to colour it; classes are switched in its legend.

    Args:
        xyz: (V, 3) m. space: of the classes.
        classes: (V,) int classes by name of the button, such as "prediction" and "ground truth".
        colour: (V, 3) uint8, the scan's own, shown as "colours".
        confidence: (V,) in [0, 1], of the first of `classes`, shown as "confidence".

    Returns what is to be said of it, or "". Raises PageError without plotly, OSError if it cannot be written.
    """
    need_plotly()
    import plotly.graph_objects as go

    shown = np.arange(len(xyz))
    if len(xyz) > MOST_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(len(xyz), MOST_POINTS, replace=False))
    points = (xyz - xyz.mean(0))[shown].astype(np.float32)
    views = {}  # name -> traces
    if colour is not None:
        views["colours"] = [_trace(go, points, "scan", _hex(colour[shown]))]
    views |= {name: _by_class(go, points, of_vertex, shown, space) for name, of_vertex in classes.items()}
    if confidence is not None:
        views["confidence"] = [_trace(go, points, "confidence", confidence[shown].astype(np.float32), SURE)]

    figure = go.Figure([trace for traces in views.values() for trace in traces])
    start = next(iter([*classes, *views]))
    of_view = np.repeat(list(views), [len(traces) for traces in views.values()])
    for trace, name in zip(figure.data, of_view, strict=True):
        trace.visible = bool(name == start)
    thinned = f"{len(shown):,} of {len(xyz):,} vertices are shown" if len(shown) < len(xyz) else ""
    figure.update_layout(
        title={"text": escape(title) + (f"<br><sub>{thinned}</sub>" if thinned else ""), "y": 0.99, "yanchor": "top"},
        scene={
            **{f"{axis}axis": {"visible": False} for axis in "xyz"},
            "aspectmode": "data", "camera": {"eye": dict(zip("xyz", EYE, strict=True))},
        },
        updatemenus=[
            {"type": "buttons", "direction": "right", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom",
             "active": list(views).index(start), "buttons": _buttons(of_view, classes)}
        ],
        legend={"itemsizing": "constant"},
        margin={"l": 0, "r": 0, "b": 0, "t": 90},
    )  # fmt: skip
    page = figure.to_html(include_plotlyjs=True, full_html=False, default_height="94vh", div_id="scan")
    head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(f"{head}\n<body>{page}<small>{FOOTER}</small></body></html>\n", encoding="utf-8")
    return thinned and f"{thinned} on the page"


def _buttons(of_view, with_legend):
    """One for each view: it shows the traces of that name in of_view, and of some a legend."""
    return [
        {
            "label": name,
            "method": "update",
            "args": [{"visible": (of_view == name).tolist()}, {"showlegend": name in with_legend}],
        }
        for name in dict.fromkeys(of_view.tolist())
    ]


def _by_class(go, points, of_vertex, shown, space):
    """A trace for each class of (V,), the commonest first. points: those `shown`; shares are of all."""
    share = np.bincount(of_vertex, minlength=space.num_classes) / len(of_vertex)
    return [
        _trace(
            go,
            points[of_vertex[shown] == c],
            f"{escape(space.names[c])} {100 * share[c]:.1f} %",
            _hex(space.palette[[c]])[0],
        )
        for c in np.argsort(-share, kind="stable")
        if share[c]
    ]


def _trace(go, points, name, colour, scale=None):
    x, y, z = points.T
    marker = {"size": SIZE, "color": colour, **(scale or {})}
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", name=name, marker=marker, hoverinfo="name", legendrank=1)


def _hex(colour):
    """#rrggbb of each of (n, 3) uint8 colours."""
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colour.tolist()]
