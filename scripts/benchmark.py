"""Times this project's parts beside their alternatives, in one run, as ratios.

    python scripts/benchmark.py step|inputs|latentgnn|scaling|eval|loader|ops|gpu [--threads T] [--rounds R] [...]

Every subject prints tables of medians with their quartiles and of ratios, and writes every single time to --json.
"""

import argparse
import json
import os
import platform
import re
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from scripts.benchmarks import evaluation, inputs, latentgnn, loader, operators, scaling, step
from scripts.benchmarks.gpu import command as gpu
from training.arguments import round_to_tf32, whole_number

SUBJECTS = {  # name: module with a docstring that says what is timed, run(args) -> dict, perhaps add_arguments(parser)
    "ops": operators,
    "step": step,
    "inputs": inputs,
    "latentgnn": latentgnn,
    "scaling": scaling,
    "loader": loader,
    "eval": evaluation,
    "gpu": gpu,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="subject", required=True)
    for name, module in SUBJECTS.items():
        summary = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_argument("--threads", type=whole_number(1), default=1)
        command.add_argument("--rounds", type=whole_number(1), default=9)
        command.add_argument("--json", type=Path, metavar="FILE", help="also write every single time to FILE")
        if hasattr(module, "add_arguments"):
            module.add_arguments(command)
    args = parser.parse_args(argv)
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}")
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # peers read it when they are imported
    torch.set_num_threads(args.threads)
    round_to_tf32(False)  # forms that are compared compute alike
    machine = dict(
        python=platform.python_version(),
        torch=torch.__version__,
        system=f"{platform.system()} {platform.machine()}",
        processor=processor(),
        threads=args.threads,
        rounds=args.rounds,
    )
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    result = SUBJECTS[args.subject].run(args)
    if args.json:
        args.json.write_text(json.dumps(machine | result, indent=1) + "\n")
    return 0


def processor() -> str:
    """The processor's name where Linux tells it."""
    file = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", file.read_text(), re.MULTILINE) if file.exists() else None
    return found[1] if found else platform.processor() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
