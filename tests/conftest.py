"""For all tests: property tests take the time they need, because machines are shared and noisy."""

from hypothesis import settings

settings.register_profile("nanohost", deadline=None)
settings.load_profile("nanohost")
