"""python -m ops: what there is on this machine, checked against the reference on the CPU and timed: a table to paste.

Exit status 1 if a result differs from the reference. pointnet2_ops may differ: it rounds otherwise.
"""

import argparse
import platform
import statistics
import sys
import time

import torch

import ops
from ops import cpu, reference

POINTS, CENTRES = 4096, 512
TIMED_CLOUDS = {"cpu": 2, "cuda": 16}  # at a time, by device
CALLS = {  # of an implementation on clouds and centres, for points about 0.1 m apart
    "furthest_point_sample": lambda module, xyz, centres: (module.furthest_point_sample(xyz, centres.shape[1]),),
    "ball_query": lambda module, xyz, centres: (module.ball_query(0.2, 32, xyz, centres),),
    "three_nn": lambda module, xyz, centres: module.three_nn(xyz, centres),
}
REPEATS = 5


def clouds() -> dict[str, torch.Tensor]:
    """Clouds (2, about POINTS, 3) of one room's size: the ordinary and those that are easy to get wrong."""
    room = torch.rand(2, POINTS, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.5, 1.5, 3.0])
    return {
        "random": room,
        "lattice": (room * 10).round() / 10,  # equal distances everywhere
        "duplicates": torch.cat([room[:, : POINTS // 2]] * 2, dim=1),
        "one place": room[:, :1].expand(-1, POINTS, -1),
        "10 km away": room + 1e4,
        "odd size": room[:, :-3],
        "large": torch.cat([room + k / 7 for k in range(5)], dim=1)[:, :-3],
    }


def clouds_without_ties() -> dict[str, torch.Tensor]:
    """Of those, what pointnet2_ops defines as this project does: no ties, and no point near the origin."""
    return {kind: xyz + 1 for kind, xyz in clouds().items() if kind in ("random", "odd size")}


def implementations() -> dict:
    """Name -> (module, device) of all that this machine has besides the reference on the CPU."""
    found = {}
    for name in ops.MODULES:
        try:
            module, origin = ops.load(name)
            found[f"{name} ({origin})"] = (module, module.DEVICE)
        except cpu.CompileError as error:
            print(f"{name}: not available: {error}")
    if torch.cuda.is_available():
        found[f"reference ({torch.cuda.get_device_name()})"] = (reference, "cuda")
    return found


def milliseconds(call, module, xyz, centres) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call(module, xyz, centres)[0].cpu()  # cpu() waits for the device
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> int:
    print(f"python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}")
    print(f"{torch.get_num_threads()} threads, CUDA {torch.version.cuda if torch.cuda.is_available() else 'not there'}")
    print(ops.describe())
    different = 0
    for name, (module, device) in implementations().items():
        is_peer = name.startswith("pointnet2_ops")
        compared = clouds_without_ties() if is_peer else clouds()
        timed = clouds()["random"].repeat(TIMED_CLOUDS[device] // 2, 1, 1)
        print(f"\n{name}, timed on {len(timed)} clouds of {POINTS} points, {CENTRES} centres\n")
        print(
            "| op | equal to the reference | reference, CPU, ms | this, ms | times faster |\n|---|---|---:|---:|---:|"
        )
        for op, call in CALLS.items():
            wrong = []
            for kind, xyz in compared.items():
                wanted = call(reference, xyz, xyz[:, :CENTRES])
                got = call(module, xyz.to(device), xyz[:, :CENTRES].to(device))
                pairs = list(zip(got, wanted, strict=True))[-1 if is_peer else 0 :]  # a peer's distances may be rounded
                if not all(torch.equal(a.cpu(), b) for a, b in pairs):
                    wrong.append(kind)
            different += 0 if is_peer else len(wrong)
            verdict = f"NO: {', '.join(wrong)}" if wrong else f"yes, {len(compared)} kinds of cloud"
            slow = milliseconds(call, reference, timed, timed[:, :CENTRES])
            fast = milliseconds(call, module, timed.to(device), timed[:, :CENTRES].to(device))
            print(f"| {op} | {verdict} | {slow:.2f} | {fast:.2f} | {slow / fast:.0f} |")
    print("\nthree_interpolate and group_points are plain torch on every device: nothing to compare.")
    return 1 if different else 0


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m ops", description=__doc__).parse_args()
    sys.exit(main())
