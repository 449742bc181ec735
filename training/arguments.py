"""Command-line flags: their types, those of a network's configuration, those of a file, and the choice of a device."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

TF32_HELP = "10 bits of mantissa in a GPU's matrix products and convolutions (default: float32 in both)"


def choose_device(name: str, tf32: bool | None = False) -> torch.device:
    """The one place that names a device: "auto" is the GPU of this process if there is one, else the CPU.

    tf32: as `round_to_tf32`. None: as it is set, in somebody else's program.
    """
    if tf32 is not None:
        round_to_tf32(tf32)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SystemExit(f"error: --device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return torch.device(name)


def round_to_tf32(allowed: bool) -> None:
    """Whether a GPU's matrix products and its convolutions round to TF32. torch by itself lets convolutions do so and
    products not, and forms that are compared have to compute alike."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def precision() -> str:
    """What a GPU's matrix products and convolutions compute with, as `round_to_tf32` has set it."""
    return "TF32" if torch.backends.cuda.matmul.allow_tf32 else "float32"


def whole_number(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number that is at least `least`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
        return number

    return convert


def add_network_flags(parser: argparse.ArgumentParser, config_class: type) -> None:
    """A flag for each of `network_fields`, with the field's default."""
    for name in network_fields(config_class):
        field = config_class.__dataclass_fields__[name]
        flag, default, choices = "--" + name.replace("_", "-"), field.default, field.metadata.get("choices")
        if isinstance(default, bool):
            options = {"action": argparse.BooleanOptionalAction}
        elif isinstance(default, tuple):
            kind = whole_number(1) if isinstance(default[0], int) else float
            options, default = {"type": kind, "nargs": len(default), "metavar": "X"}, list(default)  # as JSON has it
        else:
            options = {"choices": choices} if choices else {"type": whole_number(1)}
        parser.add_argument(flag, default=default, help=field.metadata["help"], **options)


def network_fields(config_class: type) -> list[str]:
    """The fields of a configuration that are flags: those with a help text."""
    return [field.name for field in dataclasses.fields(config_class) if "help" in field.metadata]


def refuse_options(parser: argparse.ArgumentParser, args: argparse.Namespace, names: Iterable[str]) -> None:
    """Ends the program if one of the flags, which are of another model's layer, is not at its default."""
    for name in names:
        if (value := getattr(args, name)) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} {value} is no option of --model {args.model}; leave it out")


def flags_of_file(path: Path, parser: argparse.ArgumentParser, without: Iterable[str] = ()) -> list[str]:
    """The entries of a config file, but for some, as flags: the parser checks them as it checks the command line."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        parser.error(f"--config {path}: cannot be read as JSON ({error})")
    known = set(vars(parser.parse_args([])))
    if not isinstance(entries, dict) or not entries.keys() <= known:
        unknown = sorted(entries.keys() - known) if isinstance(entries, dict) else type(entries).__name__
        parser.error(f"--config {path}: unknown keys {unknown}; known are {sorted(known)}")
    flags = []
    for key, value in entries.items():
        if key in without:
            continue
        if isinstance(value, bool):
            flags.append(("--" if value else "--no-") + key.replace("_", "-"))
        elif value is not None and key != "config":
            flags += ["--" + key.replace("_", "-"), *map(str, value if isinstance(value, list) else [value])]
    return flags
