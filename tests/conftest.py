"""What every test shares: hypothesis without deadlines, because machines that run the suite are slow at times."""

from hypothesis import settings

settings.register_profile("swarm", deadline=None, print_blob=True)
settings.load_profile("swarm")
