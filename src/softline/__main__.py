"""`python -m softline` is `softline`; and with a script or -m module, runs that with scikit-learn patched."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run what the arguments name: a command, a script or a module; return its exit code."""
    try:
        from softline import cli
    except KeyboardInterrupt:  # later ones are the command's, or the script's
        print("softline: interrupted", file=sys.stderr)
        return 130
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first == "-m" or first.endswith(".py") or (first not in cli.COMMANDS and os.path.isfile(first)):
        from softline.patch import run_patched

        return run_patched(sys.argv[1:])
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
