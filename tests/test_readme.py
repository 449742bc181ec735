"""README.md, CONTRIBUTING.md and docs/: examples run, and whatever they name exists."""

import functools
import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch

from data import metrics
from data.labels import SCANNET20
from models import pointnet2
from scripts.experiments import context_probe, table3_report
from training import checkpoint

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
DOCUMENTS = {str(path.relative_to(ROOT)): path for path in (README, CONTRIBUTING, *sorted(ROOT.glob("docs/**/*.md")))}
MOST_WORDS = 1300
FOLDERS = ("data", "models", "ops", "scripts", "training")
SOURCES = {".py", ".cpp", ".h"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)  # language, content
INDENTED = re.compile(r"^ {4}(python .*)$", re.M)
CALLED = re.compile(r"\b(?:python|torchrun(?: --\S+)+) +([\w/]+\.py|-m ops)\b(.*)")  # script, arguments
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OF_COCO = ("scripts/coco/train_coco.py", "scripts/coco/eval_coco.py")  # torchvision is in an environment of its own
has_torchvision = importlib.util.find_spec("torchvision") is not None

every_document = pytest.mark.parametrize("name", DOCUMENTS)


def python_examples(name: str) -> list[str]:
    return [block for language, block in BLOCK.findall(DOCUMENTS[name].read_text()) if language == "python"]


def commands(name: str) -> list[tuple[str, str]]:
    """Every script that a document's blocks call, or "-m ops", and the arguments behind it."""
    text = DOCUMENTS[name].read_text()
    blocks = [block for language, block in BLOCK.findall(text) if not language]
    return CALLED.findall("\n".join(blocks + INDENTED.findall(text)).replace("\\\n", " "))


ALL_COMMANDS = [pytest.param(*command, id=" ".join(command)) for name in DOCUMENTS for command in commands(name)]


def call(script: str, arguments: list[str], monkeypatch, capsys) -> str:
    """What it prints until it exits, which has to be with status 0."""
    if script in OF_COCO and not has_torchvision:
        pytest.skip("torchvision is missing")
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")  # so that it is put back: scripts set it
    capsys.readouterr()
    try:
        if script == "-m ops":
            runpy.run_module("ops", run_name="__main__")
        else:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        status = 0
    except SystemExit as stopped:
        status = stopped.code or 0
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


@functools.cache
def flags_in_source() -> set[str]:
    """Of everything that parses flags, as far as they are written out."""
    elsewhere = [ROOT / "ops/__main__.py", ROOT / "data/preprocessing.py"]
    scripts = [*ROOT.glob("scripts/**/*.py"), *ROOT.glob("*.py"), *elsewhere]
    return {flag for path in scripts for flag in re.findall(r'"(--[a-z][a-z0-9-]*)"', path.read_text())}


def test_the_readme_is_short():
    words = len(README.read_text().split())
    assert words <= MOST_WORDS, f"{words} words: what not everybody needs belongs into docs/"


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name in DOCUMENTS for number in range(len(python_examples(name)))]
)
def test_an_example_runs(name, number, tmp_path, monkeypatch):
    model = pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=0)
    run = tmp_path / "runs" / "latentgnn_k1"
    (run / "checkpoints").mkdir(parents=True)
    checkpoint.save(run / "checkpoints" / "last.pt", model, {})
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(python_examples(name)[number], name, "exec"), names)
    if "logits" in names:
        assert names["logits"].shape == (2, 8192, 21)
        assert checkpoint.weights_sha256(names["network"]) == checkpoint.weights_sha256(model)


def test_what_the_example_inserts_is_trained():
    """After a step in which its scale moved, the layer counts."""
    (example,) = [example for example in python_examples("README.md") if "insert_context" in example]
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    network, images = names["network"], names["images"]
    network(images).square().mean().backward()
    assert network[1].context.scale.grad.abs() > 0
    with torch.no_grad():
        network[1].context.scale.fill_(1)
        assert not torch.allclose(network(images), names["before"])


@pytest.mark.parametrize(("script", "arguments"), ALL_COMMANDS)
def test_a_command_is_understood(script, arguments, monkeypatch, capsys):
    """Its flags are parsed, with their values; --help, the last of them, ends it before any work."""
    given = shlex.split(arguments, comments=True)
    flags = set(FLAG.findall(call(script, [*given, "--help"], monkeypatch, capsys)))
    if any(argument.startswith("--flags=") for argument in given):  # of the training that the script starts
        flags |= set(FLAG.findall(call("train_scannet.py", ["--help"], monkeypatch, capsys)))
    assert set(FLAG.findall(" ".join(given))) <= flags


def test_named_flags_exist(monkeypatch, capsys):
    """Those in the text; those of commands are parsed above. Some are made in a loop, so --help is asked as well."""
    known = flags_in_source() | {"--help"}
    for script in ("train_scannet.py", "scripts/experiments/reproduce_table3.py"):
        known |= set(FLAG.findall(call(script, ["--help"], monkeypatch, capsys)))
    for name, path in DOCUMENTS.items():
        unknown = set(FLAG.findall(BLOCK.sub("", path.read_text()))) - known
        assert not unknown, f"{name} names {sorted(unknown)}, which no script has"


@every_document
def test_links_lead_somewhere(name):
    path = DOCUMENTS[name]
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", path.read_text()):
        if "://" in target:
            continue
        linked = (path.parent / target) if target else path
        assert linked.exists(), f"{name} links to {target}"
        assert not heading or heading in headings(linked), f"{name} links to {target}#{heading}"


def headings(path: Path) -> set[str]:
    """As GitHub names them in addresses."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@every_document
def test_named_files_and_targets_exist(name):
    text = DOCUMENTS[name].read_text()
    ours = rf"(?<![\w./<>-])(?:{'|'.join((*FOLDERS, 'tests', 'docs'))})/(?:[\w.-]+/)*(?:[\w-]+\.\w+)?"
    for path in re.findall(ours, text):
        assert (ROOT / path).exists(), f"{name} names {path}"
    made = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    targets = re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, re.M)
    assert set(targets) <= {*made}, f"{name} names targets that the Makefile has not"


@every_document
def test_named_tests_exist(name):
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    for test in re.findall(r"(?<![\w/])test_\w+\b(?!\.py)", DOCUMENTS[name].read_text()):
        assert f"def {test}(" in tests, f"{name} names {test}"


def test_the_tree_has_a_line_for_every_file():
    _, tree = BLOCK.search(CONTRIBUTING.read_text()).groups()
    listed, folder = set(), Path()
    for line in tree.splitlines():
        first = line.split()[0]
        if not line.startswith(" "):
            folder = Path(first) if first.endswith("/") else Path()
        inside = folder / first if line.startswith(" ") and first.endswith("/") else folder
        listed |= {str(inside / file) for file in re.findall(r"[\w-]+\.(?:py|cpp|h|md|txt)\b", line)}
    there = {path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*") if path.suffix in SOURCES}
    there |= {*ROOT.glob("*.py"), ROOT / "data/README.md", *ROOT.glob("scripts/**/*.txt")}
    there = {str(path.relative_to(ROOT)) for path in there if path.stat().st_size}  # without empty __init__.py
    there = {path for path in there if not path.startswith("scripts/benchmarks/")}  # one line for all
    assert listed == there


def test_what_an_addition_touches_is_there():
    """Each name in a point of the list stands in one of the files that the point links to."""
    (section,) = re.findall(r"^## How to add\n(.*?)^## ", CONTRIBUTING.read_text(), re.M | re.S)
    for point in re.split(r"^\* ", section, flags=re.M)[1:]:
        linked = "".join((ROOT / file).read_text() for file in re.findall(r"\]\(([^)]+)\)", point))
        for name in re.findall(r"`([\w.]+)`", point):
            assert name in linked, f"no file of its point has {name}"


def test_folders_know_whom_they_may():
    commands = "scripts|train_scannet|eval_scannet"
    strangers = {"data": "models|training", "ops": "data|models|training", "models": "data|training"}
    for folder in ("data", "ops", "models", "training"):
        unknown = "|".join(filter(None, (commands, strangers.get(folder))))
        for path in ROOT.glob(f"{folder}/**/*.py"):
            assert not re.search(rf"^\s*(?:from|import) (?:{unknown})\b", path.read_text(), re.M), path


def test_every_score_is_defined():
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs/METRICS.md").read_text()))
    assert metrics.scores(metrics.no_counts(21), SCANNET20).keys() <= named


@pytest.mark.parametrize("script", [table3_report, context_probe], ids=["table3_report", "context_probe"])
def test_there_is_a_place_for_tables(script):
    report = {table3_report: "table3.md", context_probe: "context.md"}[script]
    text = (ROOT / "docs/results" / report).read_text()
    assert text.count(script.BEGIN) == text.count(script.END) == 1
