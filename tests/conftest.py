"""What every test shares: hypothesis without deadlines, because machines that run the suite are slow at times."""

from hypothesis import settings

import swarm.engine  # noqa: F401  (before any test loads torch: it settles what torch's libraries read when they load)

settings.register_profile("swarm", deadline=None, print_blob=True)
settings.load_profile("swarm")
