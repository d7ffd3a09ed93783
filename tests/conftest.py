"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# The full dose: `pytest --hypothesis-profile=thorough tests`. Time is no measure of a generated case.
settings.register_profile("thorough", max_examples=2_000, deadline=None)

# Servers, for whatever test asks for one; none is started before.
pytest_plugins = ["tests.servers.fixtures"]
