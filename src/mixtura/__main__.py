"""``python -m mixtura``: the command line."""

import sys

from mixtura.cli import main

sys.exit(main())
