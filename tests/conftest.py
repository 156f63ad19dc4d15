"""Hypothesis profiles: `--hypothesis-profile=long` looks ten times as long as `normal`."""

from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}

settings.register_profile("normal", settings(max_examples=100, stateful_step_count=50, **_COMMON))
settings.register_profile("long", settings(max_examples=1000, stateful_step_count=50, **_COMMON))
settings.load_profile("normal")
