"""Imported by tests of kernels that Triton's interpreter computes: where there is no Triton they are skipped."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="Triton is not installed here: it is a development dependency of Linux on x86-64")
