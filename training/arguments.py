"""Types of command-line flags, and the choice of a device."""

import argparse
from collections.abc import Callable

import torch


def choose_device(name: str) -> torch.device:
    """The one place that names a device: "auto" is the GPU of this process if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SystemExit(f"error: --device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return torch.device(name)


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
