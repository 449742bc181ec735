"""Raw ScanNet scans -> one HDF5 scene file a scan, and manifest.json. What goes in and comes out: data/README.md.

    python scripts/preprocess_scannet.py --scans DIR --out DIR [--labels TSV] [--splits DIR] [--workers N] [--shard I/N]

A scan that cannot be read costs one line and the exit status 1; the others go on. Ctrl-C, SIGTERM and kill -9 leave
whole scenes or none. Run again after any interruption: scenes that are whole, made with the same options from files
with the same content, are kept.

As an array of N jobs, give each --shard I/N with I = 0 to N - 1: it makes every N-th scan's scene and no manifest, so
that jobs share no file. When all have ended, the same command without --shard keeps the scenes, makes those that are
missing, and writes manifest.json; the bytes are those of one run without shards.
"""

import argparse
import os
import re
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.preprocessing import preprocess_scans


def main(argv=None) -> int:
    return preprocess_scans(**vars(parse_args(argv)))


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scans", type=Path, required=True, help="folder of scan folders, or of scans/ and scans_test/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for scenes/ and manifest.json")
    parser.add_argument("--labels", type=Path, help="label table: segments and aggregation instead of labels.ply")
    parser.add_argument("--splits", type=Path, help="folder of train.txt, val.txt, test.txt (default: ScanNet v2)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument(
        "--shard", type=shard, metavar="I/N", help="only every N-th scan, from the I-th on; no manifest"
    )
    parser.add_argument("--normals", action="store_true", help="store vertex normals too")
    parser.add_argument("--axis-align", action="store_true", help="apply the scan's axisAlignment to the vertices")
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error("--workers must be 1 or more")
    return args


def shard(text: str) -> tuple[int, int]:
    """(I, N) of "I/N"."""
    match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N with I from 0 to N - 1")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sys.exit(main())
