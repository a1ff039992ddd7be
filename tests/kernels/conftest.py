"""Kernels run under Triton's interpreter, which is decided when they are imported."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")
