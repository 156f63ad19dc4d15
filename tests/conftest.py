"""Hypothesis profiles: `--hypothesis-profile=long` looks ten times as long as `normal`. And what
is run without coverage.
"""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings

UNTRACED = {
    "test_exhaustive.py",
    "test_fuzz.py",
    "test_matrix.py",
    "test_matrix_others.py",
    "test_model.py",
    "test_view.py",
}
"""They run what others have covered thousands of times more, and tracing doubles their time."""

_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}

settings.register_profile("normal", settings(max_examples=100, stateful_step_count=50, **_COMMON))
settings.register_profile("long", settings(max_examples=1000, stateful_step_count=50, **_COMMON))
settings.load_profile("normal")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests of those files for pytest-cov."""
    for item in items:
        if item.path.name in UNTRACED:
            item.add_marker("no_cover")
