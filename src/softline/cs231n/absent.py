"""Names of the course that this package does not have: convolution, pooling and what is built on them."""

from __future__ import annotations

import re


def absent(module: str, name: str) -> Exception:
    """Error of a name that a module lacks: an ImportError that says so where the course has it."""
    if re.match("conv_|max_pool_|spatial_|ThreeLayerConvNet$", name):
        return ImportError(
            f"{name} is not part of softline.cs231n, which has fully connected layers only; "
            "keep the course's own module for convolution and pooling"
        )
    return AttributeError(f"module {module!r} has no attribute {name!r}")
