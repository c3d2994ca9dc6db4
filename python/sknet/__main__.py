# SPDX-License-Identifier: Apache-2.0
"""python -m sknet"""

import sys

from sknet.cli import main

if __name__ == "__main__":
    sys.exit(main())
