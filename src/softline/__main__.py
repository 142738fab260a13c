"""``python -m softline``: the command line; or a script or -m module, run with scikit-learn patched."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command, script or module that the arguments name; return its exit code."""
    try:
        from softline._cli import commands as cli
    except KeyboardInterrupt:
        print("softline: interrupted", file=sys.stderr)
        code = 130
    else:
        first = sys.argv[1] if len(sys.argv) > 1 else ""
        if first == "-m" or first.endswith(".py") or (first not in cli.COMMANDS and os.path.isfile(first)):
            from softline.patch import run_patched

            return run_patched(sys.argv[1:])
        code = cli.main()
    # Python remembers a Ctrl-C in code from a string, as namedtuple runs it, and would end by that signal.
    exec("")
    return code


if __name__ == "__main__":
    sys.exit(main())
