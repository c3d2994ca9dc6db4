# SPDX-License-Identifier: Apache-2.0
"""python train.py -c configs/sknet/RECIPE.yaml --data_dir DIR: the same as `sknet train`."""

import sys

from sknet.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
