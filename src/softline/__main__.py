"""`python -m softline` is `softline`."""

import sys

from softline.cli import main

sys.exit(main())
