"""The modules of the placement bench stand beside its script; tests import them as it does."""

from __future__ import annotations

import sys

from ..launch import REPOSITORY

sys.path.append(str(REPOSITORY / "bench" / "placement"))
