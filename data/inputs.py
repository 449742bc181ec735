"""The scans that a command is given as files and folders, and a place for what is made of each."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from data.columns import PREDICTED
from data.formats.text import TEXT
from data.logits import is_logits


class Input(NamedTuple):
    path: Path
    name: Path  # without ending; of a file in a folder: from that on


def find_inputs(given: list[Path], endings: Collection[str]) -> list[Input]:
    """The files given, and those in the folders given and below that have one of the endings, such as ".ply".

    Left out of folders are hidden files, what predict.py has made of a file beside or above, and text, which may be
    anything and is told. Raises ValueError for a folder without any; a file that is missing or of another kind is for
    its reader to refuse.
    """
    found = []
    for path in given:
        if not path.is_dir():
            found.append(Input(path, Path(path.stem)))
            continue
        paths = [one for one in sorted(path.rglob("*")) if one.suffix.lower() in {*endings, *TEXT} and not one.is_dir()]
        stems = {one.stem for one in paths}
        inside = [Input(one, one.relative_to(path).with_suffix("")) for one in paths]
        inside = [one for one in inside if not is_hidden(one.name) and not why_no_scan(one.path, stems)]
        texts = [one.path.name for one in inside if one.path.suffix.lower() not in endings]
        if texts:
            print(f"{path}: text files are given by name; {len(texts)} are left out: {', '.join(texts)[:200]}")
        if len(inside) == len(texts):
            raise ValueError(f"{path}: has no file that ends in {', '.join(endings)}")
        found += [one for one in inside if one.path.suffix.lower() in endings]
    return found


def refuse_outputs(read: list[Path], written: list[tuple[str, Path, Path]]) -> None:
    """Raises ValueError where a file that is to be written is read, a folder, a device, or written twice.

    written: the flag that says so, the file, and the input that it is made of.
    """
    times = Counter(path.resolve() for _, path, _ in written)
    inputs = {path.resolve() for path in read}
    for flag, path, source in reversed(written):  # of --out and --html, the page is to go elsewhere
        if path.is_dir():
            raise ValueError(f"{flag} {path} is a folder; give the name of a file")
        if path.exists() and not path.is_file():  # it would be replaced
            raise ValueError(f"{flag} {path} is a device or a pipe; give the name of a file")
        if path.resolve() in inputs:
            raise ValueError(f"{flag} {path} is an input; choose another name")
        if times[path.resolve()] > 1:
            other = next((of for _, same, of in written if same.resolve() == path.resolve() and of != source), None)
            sources = f", of {other} and of {source}" if other else ""
            advice = "choose another name, or give one input at a time"
            raise ValueError(f"{flag} {path} would be written twice{sources}; {advice}")


def is_hidden(name: Path) -> bool:
    """Whether a file, or a folder that it is in, is; name: from the folder on that is looked through."""
    return any(part.startswith(".") for part in name.parts)  # macOS puts a ._room.ply beside room.ply


def why_no_scan(path: Path, stems: Collection[str]) -> str:
    """What scripts/predict.py has made of a scan, if the file is that, else "". stems: of the files around it."""
    if path.stem.endswith(PREDICTED) and path.stem.removesuffix(PREDICTED) in stems:
        return "is a prediction by its name"
    return "is what --logits wrote" if path.suffix.lower() == ".npz" and is_logits(path) else ""
