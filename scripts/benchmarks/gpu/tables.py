"""The GPU benchmark's figures as Markdown, for docs/PERFORMANCE.md."""

from scripts.benchmarks import timing
from scripts.benchmarks.gpu.setting import LEFT_OUT

NOTHING = "-"


def markdown(content: dict) -> str:
    """The tables of those parts that are done."""
    machine = [f"{key} {content[key]}" for key in ("device", "gpus", "cores", "torch", "cuda")]
    lines = ["## On a GPU", "", "    python scripts/benchmark.py gpu", "", ", ".join([*machine, content["ops"]]), ""]
    if content["small"]:
        lines += ["**Small sizes, to try the command: no figure here means anything.**", ""]
    for name, part in content["parts"].items():
        title, table = TABLES[name]
        lines += [f"### {title}", "", *table(part), ""]
        left_out = sum(row.get("error") == LEFT_OUT for row in part["rows"])
        if left_out:
            lines += [f"{left_out} rows were left out: the part's time was over.", ""]
    return "\n".join(lines)


def operators(part: dict) -> list[str]:
    sizes = f"points -> centres, {part['clouds']} clouds"
    lines = head(sizes, "operator", "equal", "ms (quartiles)", "reference, ms", "x faster")
    for row in part["rows"]:
        sizes = f"{row['points']} -> {row['centres']}"
        if "error" in row:
            lines.append(line(sizes, row["operator"], row["error"]))
            continue
        ours, reference = row["seconds"]["ours"], row["seconds"]["reference"]
        equal = "yes" if row["equal"] else "NO"
        lines.append(
            line(sizes, row["operator"], equal, ms(ours, 3), ms(reference, 3), f"{ratio(reference, ours):.0f}")
        )
    return lines


def equality(part: dict) -> list[str]:
    """How far the captured step goes from the eager one, and that from itself: atomic sums differ from run to run."""
    lines = [f"{part['batch']} chunks a step, the same seeds; {part['captured']}.", ""]
    lines += head("network", "captured and eager", "eager, twice")
    for row in part["rows"]:
        texts = [row["error"]] if "error" in row else [apart(row[key]) for key in ("captured", "eager again")]
        lines.append(line(row["network"], *texts))
    return lines


def apart(steps: list[dict]) -> str:
    if all(step["equal"] for step in steps):
        return f"equal to the bit after each of {len(steps)} steps"
    first, last = next(k for k, step in enumerate(steps, 1) if not step["equal"]), steps[-1]
    after = f"after {len(steps)}: loss {last['loss']:.1e}, weights {last['weights']:.1e} apart"
    return f"apart from step {first} on; {after}"


def steps(part: dict) -> list[str]:
    lines = [f"Forward, loss, backward and update. Captured: {part['captured']}.", ""]
    lines += head(
        "network",
        "B",
        "precision",
        "eager, ms",
        "captured, ms",
        "textbook, ms",
        "context",
        "MB of tensors, of the device",
    )
    for row in part["rows"]:
        known = [row["network"], str(row["batch"]), row["precision"]]
        if "error" in row:
            lines.append(line(*known, row["error"]))
            continue
        forms = row["forms"]
        held = [f"{form} {memory(figures)}" for form, figures in forms.items() if "tensors_mb" in figures]
        times = [figure(forms.get(form, {})) for form in ("eager", "captured", "textbook")]
        lines.append(line(*known, *times, context(row, part["rows"]), "; ".join(held) or NOTHING))
    return lines


def context(row: dict, rows: list[dict]) -> str:
    """The share of a captured step that it takes longer than without context."""
    alike = [r for r in rows if (r["precision"], r["batch"]) == (row["precision"], row["batch"])]
    plain = next(r for r in alike if r["network"] == "no context")
    seconds = [r.get("forms", {}).get("captured", {}).get("seconds") for r in (plain, row)]
    return f"{100 * (1 - ratio(*seconds)):.0f} %" if all(seconds) else NOTHING


def layer(part: dict) -> list[str]:
    lines = [f"Forward and backward, C = {part['channels']}, d = {part['latent_nodes']}, one cloud.", ""]
    lines += head("N", "form", "eager, ms", "replayed as a graph, ms", "MB of tensors, of the device")
    for row in part["rows"]:
        if "error" in row:
            lines.append(line(f"{row['points']:,}", row["error"]))
        for form, figures in row.get("forms", {}).items():
            times = [figure(figures, how) for how in ("eager", "replayed")]
            lines.append(line(f"{row['points']:,}", form, *times, memory(figures)))
    return [*lines, "", *moments(part, "eager"), *moments(part, "replayed")]


def moments(part: dict, how: str) -> list[str]:
    """Where batch norm by moments pays: at which points, and of how many values. Nothing if it was not measured."""
    ratios = {}
    for row in part["rows"]:
        both = [row.get("forms", {}).get(form, {}).get(how) for form in ("moments", "batch norm")]
        if all(both):
            ratios[row["points"]] = ratio(*both)
    pays = [f"{n:,} ({n * part['latent_nodes']:,} values)" for n in ratios if ratios[n] < 1]
    now = f"models/latentgnn.py takes them on a GPU above {part['bound']:,} values"
    return [f"Moments are faster, {how}, at N = {', '.join(pays) or 'none of these'}; {now}."] if ratios else []


def evaluation(part: dict) -> list[str]:
    lines = [f"{part['network']}, both protocols.", "", *head("vertices", "s (quartiles)", "vertices/s")]
    for row in part["rows"]:
        vertices, seconds = row["vertices"], row.get("seconds")
        figures = [timing.spread(seconds, 1, 2), f"{vertices / timing.median(seconds):,.0f}"] if seconds else []
        lines.append(line(f"{vertices:,}", *(figures or [row["error"]])))
    return lines


def loader(part: dict) -> list[str]:
    need = part["batch"] / timing.median(part["step_seconds"])
    lines = [f"{part['cores']} cores, {part['scenes']} scenes{also(part)}.", ""]
    lines += [f"The step of {part['batch']} chunks takes {need:,.0f} chunks/s ({part['captured']}).", ""]
    lines += head("workers", "scenes", "chunks/s", "of what the step takes")
    for row in part["rows"]:
        rate, kind = row.get("chunks_per_second"), "from the cache" if row["kind"] == "cached" else "from their files"
        figures = [f"{rate:,.0f}", f"{rate / need:.2f}"] if rate else [row["error"]]
        lines.append(line(str(row["workers"]), kind, *figures))
    return lines


def several(part: dict) -> list[str]:
    if not part["rows"]:
        return ["One GPU: there is nothing to compare it with."]
    one = part["rows"][0].get("chunks_per_second")
    where = f"{part['gpus']} GPUs" if part["gpus"] else "the CPU, where two processes stand in for two GPUs"
    lines = [f"{part['batch']} chunks in each process, on {where}.", "", *head("processes", "chunks/s", "efficiency")]
    for row in part["rows"]:
        rate = row.get("chunks_per_second")
        efficiency = f"{100 * rate / (one * row['ranks']):.0f} %" if rate and one else NOTHING
        lines.append(line(str(row["ranks"]), f"{rate:,.0f}" if rate else row["error"], efficiency))
    return lines


def schedule(part: dict) -> list[str]:
    lines = [
        f"{part['network']}, {part['workers']} workers{also(part)}. **Extrapolated** from these steps "
        f"to the paper's {part['chunks']:,} chunks, without validation, checkpoints and filling the cache.",
        "",
    ]
    lines += head("B", "steps", "chunks/s", "hours, extrapolated", "the step")
    for row in part["rows"]:
        figures = [row.get("error", "")]
        if "hours" in row:
            figures = [str(row["steps"]), f"{row['chunks_per_second']:,.0f}", f"{row['hours']:.2f}", row["captured"]]
        lines.append(line(str(row["batch"]), *figures))
    return lines


def also(part: dict) -> str:
    return "".join(f"; {note}" for note in part["notes"])


def head(*names: str) -> list[str]:
    return [line(*names), "|" + "---|" * len(names)]


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def ms(seconds: list[float], digits: int = 1) -> str:
    return timing.spread(seconds, digits=digits)


def figure(figures: dict, key: str = "seconds") -> str:
    """Milliseconds, or why there are none."""
    return ms(figures[key]) if key in figures else figures.get("error", NOTHING)


def memory(figures: dict) -> str:
    return f"{figures['tensors_mb']:,.0f}, {figures['device_mb']:,.0f}" if "tensors_mb" in figures else NOTHING


def ratio(seconds: list[float], other: list[float]) -> float:
    return timing.median(seconds) / timing.median(other)


TABLES = {  # of each part: title, and what makes its lines
    "operators": ("The point operators", operators),
    "equality": ("The captured step beside the eager one", equality),
    "steps": ("A training step", steps),
    "layer": ("One layer", layer),
    "evaluation": ("A whole scene", evaluation),
    "loader": ("The loader", loader),
    "several": ("Several GPUs", several),
    "schedule": ("The paper's schedule", schedule),
}
