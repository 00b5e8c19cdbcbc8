"""Settings of all property-based tests: an example may take as long as a busy machine needs for it."""

from hypothesis import settings

settings.register_profile("virtbed", deadline=None, print_blob=True)
settings.load_profile("virtbed")
