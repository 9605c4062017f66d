"""What every test shares: hypothesis without deadlines, because machines that run the suite are slow at times."""

import os

from hypothesis import settings

# Triton's kernels are computed by its interpreter here: it asks as it is imported, which others may do for reasons of their own
os.environ.setdefault("TRITON_INTERPRET", "1")

import swarm.engine  # noqa: F401  (before any test loads torch: it settles what torch's libraries read when they load)

settings.register_profile("swarm", deadline=None, print_blob=True)
settings.load_profile("swarm")
