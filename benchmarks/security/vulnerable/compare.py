"""How the weak protocol compares secrets."""

import hmac


def equal(one: bytes, other: bytes, early_exit: bool = True) -> bool:
    """Whether two secrets are the same. The mistake is to stop at the first difference."""
    return one == other if early_exit else hmac.compare_digest(one, other)
