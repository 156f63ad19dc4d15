"""Checks of what a caller passes: the same words everywhere."""

import operator

from secagg.errors import LocalError


def threads(value: object) -> int | None:
    """How many threads a call may use, or None for all cores. Raises LocalError."""
    return None if value is None else whole(value, "a number of threads", 1)


def whole(value: object, what: str, least: int, most: int | None = None, unit: str = "") -> int:
    """`value` as an integer from `least` to `most`. Raises LocalError, which says what it is."""
    allowed = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise LocalError(f"{what} is a whole number, {allowed}{unit}") from None
    if number < least or (most is not None and number > most):
        raise LocalError(f"{what} is {allowed}{unit}, got {number}")
    return number
