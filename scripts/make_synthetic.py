"""Make synthetic rooms in ScanNet's raw layout, ready for scripts/preprocess_scannet.py.

python scripts/make_synthetic.py --out datasets/rooms_scans [--scenes 64 --seed 0 --workers 2]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.rooms.dataset import STYLES, make_dataset
from data.rooms.rooms import SHARES, share_bounds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=64, help="a quarter of them for validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes; the bytes do not depend on it")
    style = "like depth-camera scans (the default), or boxes of which some only their surroundings tell apart"
    parser.add_argument("--style", choices=STYLES, help=style)
    parser.add_argument("--furniture", type=Path, help="style scanned: a folder of .sh3f archives, mixed in")
    shuffled = "style plain: control set: labels of near and room objects shuffled within pairs"
    parser.add_argument("--shuffle-labels", action="store_true", help=shuffled)
    telling = (
        "style plain: a vertex's colour says what its object alone tells: its class, or of one without a cue its pair"
    )
    parser.add_argument("--telling-colours", action="store_true", help=telling)
    doubles = (
        "style plain: studios in which two look-alikes of different classes stand side by side, each with its companion"
    )
    parser.add_argument("--doubles", action="store_true", help=doubles)
    args = parser.parse_args(argv)
    plain = args.shuffle_labels or args.telling_colours or args.doubles
    args.style = args.style or ("plain" if plain else "scanned")
    try:
        report = make_dataset(
            args.out, args.scenes, args.seed, args.workers, args.shuffle_labels, args.telling_colours,
            style=args.style, furniture=args.furniture, doubles=args.doubles,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        parser.exit(2, f"make_synthetic: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "make_synthetic: interrupted; the same command makes the set again\n")
    print(f"{args.scenes} rooms, {report['vertices']:,} vertices in {args.out}")
    print_shares(report["shares"])
    if args.style == "scanned":
        return 0
    kinds = list(report["kinds"])
    print(f"\n{'objects of pairs':18}" + "".join(f"{kind:>8}" for kind in kinds))
    print(f"{'share':18}" + "".join(f"{share:8.2f}" for share in report["kinds"].values()))
    for name, accuracy in report["oracles"].items():
        print(f"{name + ' oracle':18}" + "".join(f"{accuracy.get(kind, float('nan')):8.2f}" for kind in kinds))
    return 0


def print_shares(shares: dict[str, float]) -> None:
    print(f"\n{'share of vertices (%)':46}{'made':>7}{'wanted':>8}")
    for classes, made, wanted, within in share_bounds(shares):
        if len(classes) > 1:
            for name in classes:
                print(f"  {name:44}{shares[name]:7.2f}{SHARES[name]:8.2f}")
        print(f"{' + '.join(classes):46}{made:7.2f}{wanted:8.2f}{'' if within else '  <- out of bounds'}")


if __name__ == "__main__":
    raise SystemExit(main())
