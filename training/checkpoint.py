"""Checkpoints: weights, the configuration that rebuilds the network, and the state that continues a training run.

A checkpoint holds only tensors, numbers, strings, lists and dicts, so it is read with weights_only. It is written
whole or not at all, and its checksums are compared before it is used: a run's last.pt has previous.pt to fall back on.
"""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Container, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from data.atomic_write import replacing
from data.datasets import INPUTS
from data.labels import SCANNET20, LabelError, LabelSpace, from_json
from models.pointnet2 import PointNet2, PointNet2Config

FORMAT_VERSION = 1
LAST, PREVIOUS, BROKEN = "last.pt", "previous.pt", "broken.pt"
SHIPPED = Path(__file__).resolve().parent.parent / "models" / "weights"  # an export in a folder of its name, each


class CheckpointError(Exception):
    """The message names the file, what is wrong with it and what to do."""


def save(
    path: str | Path,
    model: PointNet2,
    config: dict,
    selected_on: str | None = None,
    space: LabelSpace | None = None,
    **training_state,
) -> None:
    """Write a checkpoint whole or not at all; CheckpointError if that fails. A last.pt becomes previous.pt by it.

    Args:
        space: what the classes are; None: SCANNET20's, or not semantic ones.
        config: settings of the training run; evaluation reads data, val and those of data.datasets.INPUTS.
        selected_on: on what scores this epoch was chosen among others; None if it was not.
        training_state: what goes on from here: optimizer state, epoch, ...
    """
    content = {
        "format_version": FORMAT_VERSION,
        "model_config": dataclasses.asdict(model.config),
        "model": model.state_dict(),
        "config": config,
        "selected_on": selected_on,
        **training_state,
    }
    if space:
        content["label_space"] = space.as_json()
    path = Path(path)
    buffer = io.BytesIO()  # torch.save to a full disk would raise another error than the disk's
    torch.save(content, buffer)
    try:
        with replacing(path, kept_as=path.with_name(PREVIOUS) if path.name == LAST else None) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); those before it are as they were"
        ) from error


def read(path: str | Path) -> dict:
    """A checkpoint's entries, tensors on the CPU, "label_space" a LabelSpace.

    CheckpointError if it is missing, broken or of another format.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint file")
    try:
        file = io.BytesIO(Path(path).read_bytes())
        damaged = zipfile.ZipFile(file).testzip()  # torch.save writes checksums, which torch.load does not compare
        if damaged:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason}); use another one") from error
    wanted = {"model_config", "model", "config", "selected_on"}
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION or wanted - content.keys():
        raise CheckpointError(f"{path}: is not a checkpoint of format {FORMAT_VERSION} written by train_scannet.py")
    return content | {"label_space": _label_space(path, content.get("label_space"))}


def _label_space(path, content) -> LabelSpace:
    """What an entry `label_space` says; files of before there was one are of SCANNET20."""
    try:
        return SCANNET20 if content is None else from_json(content)
    except LabelError as error:
        raise CheckpointError(f"{path}: its label space is none: {error}") from error


def read_newest(folder: str | Path) -> tuple[Path, dict, str] | None:
    """Path and entries of last.pt, or of previous.pt where last.pt is broken or missing, and a line that says so.

    A broken last.pt is renamed to broken.pt, lest the next save make it the previous one. None if there is neither.
    Raises CheckpointError if previous.pt would be needed, and is broken or missing as well.
    """
    last, previous = Path(folder) / LAST, Path(folder) / PREVIOUS
    if not last.exists():
        return (previous, read(previous), f"there is no {last}: {previous} is used") if previous.exists() else None
    try:
        return last, read(last), ""
    except CheckpointError as error:
        if not previous.exists():
            raise
        try:
            content = read(previous)
        except CheckpointError as another:
            raise CheckpointError(f"{error}; {another}") from another
        os.replace(last, last.with_name(BROKEN))
        return previous, content, f"{error}: {previous} is used, and the broken one is kept as {BROKEN}"


def build(content: dict, path: str | Path) -> PointNet2:
    """The network that a checkpoint's entries describe, in evaluation mode. `path` is for the error message."""
    try:
        model = PointNet2(PointNet2Config(**content["model_config"]))
        model.load_state_dict(content["model"])
        space = content["label_space"]
        if model.config.num_classes != space.num_classes:
            outputs = f"{model.config.num_classes} outputs"
            raise ValueError(f"it has {outputs}, its label space {space.name} has {space.num_classes} with class 0")
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit this version's PointNet2: {error}") from error
    return model.eval()


def load(path: str | Path) -> PointNet2:
    """The network from what `read_published` reads, in evaluation mode on the CPU.

    CheckpointError if it is missing, broken or of another format.
    """
    return build(read_published(path), path)


def is_shipped(path: str | Path) -> bool:
    """Whether it is the name of weights that come with the project, and of nothing here."""
    return not Path(path).exists() and len(Path(path).parts) == 1 and (SHIPPED / path).is_dir()


def resolve(path: str | Path) -> Path:
    """The path itself; shipped weights' folder; of a run's folder its checkpoints/last.pt, with a line that says so."""
    if is_shipped(path):
        return SHIPPED / path
    last = Path(path) / "checkpoints" / LAST
    if not last.parent.is_dir():
        return Path(path)
    print(f"{path} is the folder of a run: its {last.relative_to(path)} is taken")
    return last


def read_published(path: str | Path) -> dict:
    """As `read`, of a checkpoint file, a run's folder or shipped weights (see `resolve`), or an `export` folder.

    Of an export, "config" holds nothing but data.datasets.INPUTS, and "selected_on" is None. "temperature" is that of
    scripts/calibrate.py, None without.
    """
    path = resolve(path)
    if not path.is_dir():
        return {"temperature": None} | read(path)
    try:
        config = json.loads((path / "config.json").read_text())
        temperature = config.pop("temperature", None)
        if temperature is not None and not 0 < temperature < float("inf"):
            raise ValueError(f"its temperature is {temperature}; it has to be a positive number")
        inputs = {name: config.pop(name, default) for name, default in INPUTS.items()}
        space, weights = _label_space(path, config.pop("label_space", None)), load_file(path / "model.safetensors")
        return {
            "model_config": config,
            "model": weights,
            "config": inputs,
            "label_space": space,
            "selected_on": None,
            "temperature": temperature,
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: holds no readable model.safetensors and config.json ({error}); "
            "give the export folder of a run, the run's own, or a file of its checkpoints"
        ) from error


def export(folder: str | Path, model: PointNet2, space: LabelSpace = SCANNET20, **inputs) -> None:
    """Write model.safetensors and config.json, the form for publishing weights.

    Args: inputs: data.datasets.INPUTS of the training; what is not given has its default.
    """
    if unknown := inputs.keys() - INPUTS.keys():
        raise TypeError(f"export takes {', '.join(INPUTS)}, not {', '.join(unknown)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.safetensors") as temporary:
        save_file(model.state_dict(), temporary)
    with replacing(folder / "config.json") as temporary:
        entries = dataclasses.asdict(model.config) | inputs | {"label_space": space.as_json()}
        temporary.write_text(json.dumps(entries, indent=2) + "\n")


def take_weights(model: PointNet2, content: dict, path: str | Path, space: LabelSpace) -> str:
    """Give the model the weights of another run that fit, by name and shape, and say which do not.

    The classifier's are taken only if its classes have the names of those of `space`. content: what `read_published`
    read of `path`. CheckpointError if no weight fits.
    """
    theirs, same_classes = content["model"], space.names == content["label_space"].names
    ours = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in theirs.items()
        if name in ours and ours[name].shape == tensor.shape and (same_classes or not name.startswith("classifier."))
    }
    if not fitting:
        raise CheckpointError(f"{path}: none of its weights fits this network; leave out --init-from")
    model.load_state_dict(ours | fitting)
    new, unused = (", ".join(_modules(names, names.keys() - fitting.keys())) for names in (ours, theirs))
    text = f"weights of {path}: {len(fitting)} of {len(ours)} tensors are taken"
    text += f"; new: {new}" if new else ""
    text += f" ({content['label_space'].name} has other classes than {space.name})" if not same_classes else ""
    return text + (f"; not used: {unused}" if unused and unused != new else "")


def _modules(names: Iterable[str], some: Container[str]) -> list[str]:
    """The top modules of `some` of the tensors' names, and whether those are only a part of them."""
    of_module = {}
    for name in names:
        of_module.setdefault(name.split(".")[0], []).append(name in some)
    return [module + ("" if all(found) else " (in part)") for module, found in of_module.items() if any(found)]


def weights_sha256(model: torch.nn.Module) -> str:
    """Hex digest over the names and bytes of all parameters and buffers: the identity of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
