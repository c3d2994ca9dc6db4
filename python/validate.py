# SPDX-License-Identifier: Apache-2.0
"""python validate.py -c configs/sknet/RECIPE.yaml --data_dir DIR --ckpt_path FILE: the same as `sknet validate`."""

import sys

from sknet.cli import main

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
