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
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.labels import BUILT_IN, SCANNET20
from data.preprocessing import add_flags
from data.scannet import ID_COLUMN, NYU40_COLUMN, preprocess_scans


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
    parser.add_argument(
        "--label-space",
        default=SCANNET20.name,
        help=f"{', '.join(BUILT_IN[:2])} or a JSON file (default: %(default)s); ids above 40 need --labels",
    )
    parser.add_argument(
        "--label-column",
        choices=[NYU40_COLUMN, ID_COLUMN],
        help="of the label table, whose ids the label space has (default: id if it has ids above 40)",
    )
    add_flags(parser)
    parser.add_argument("--normals", action="store_true", help="store vertex normals too")
    parser.add_argument("--axis-align", action="store_true", help="apply the scan's axisAlignment to the vertices")
    return parser.parse_args(argv)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sys.exit(main())
