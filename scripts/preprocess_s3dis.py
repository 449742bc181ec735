"""S3DIS as it is distributed -> one HDF5 scene file a room, and manifest.json.

    python scripts/preprocess_s3dis.py --scans Stanford3dDataset_v1.2 --out datasets/s3dis [--workers N] [--shard I/N]

--scans holds Area_1 to Area_6, or some of them; a room is the scan Area_N_<room>. Area 5 is the val split, the others
are train; train_scannet.py --train and --val choose others without new preprocessing. Faults of the distributed files
are mended or left out, and named. Stopping, running again and --shard are as in scripts/preprocess_scannet.py.
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.labels import label_space
from data.preprocessing import Options, add_flags, make_scenes
from data.s3dis import choose_tasks


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        space = label_space(args.label_space)
        tasks, expected, failed = choose_tasks(args.scans, args.splits)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return make_scenes(tasks, Options(args.out, space), expected, failed, args.workers, args.shard)


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True, help="folder of Area_1 to Area_6")
    parser.add_argument("--out", type=Path, required=True, help="folder for scenes/ and manifest.json")
    parser.add_argument(
        "--label-space", default="s3dis", help="s3dis or a JSON file of its ids, such as with classes merged"
    )
    parser.add_argument("--splits", type=Path, help="folder of train.txt, val.txt, test.txt (default: Area 5 is val)")
    add_flags(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sys.exit(main())
