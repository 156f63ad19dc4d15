"""The switches of the weak protocol."""

from typing import Any

from protocols.base import Parameters

ZEROS = 4
"""Coordinates that are zero before masking: what a seed search recognises itself by."""

MISTAKES = (
    "weak_seeds",
    "both_shares",
    "swapped_keys",
    "unbound_model",
    "downgrade",
    "reuse",
    "early_exit",
    "silent",
)


class VulnerableParameters(Parameters, frozen=True):
    """Public parameters; True is the mistake.

    weak_seeds: masks come from 28-bit seeds; both_shares: answers any request, as often as it
    is asked; swapped_keys: does not check who signed a key; unbound_model: nothing depends on
    the model; downgrade: no floors of its own; reuse: a delivery that is repeated allows
    another upload under the same masks; early_exit: compares secrets byte by byte; silent:
    malformed uploads are cut or filled, values wrap, wrong shares are used.
    """

    threshold: int
    weak_seeds: bool = True
    both_shares: bool = True
    swapped_keys: bool = True
    unbound_model: bool = True
    downgrade: bool = True
    reuse: bool = True
    early_exit: bool = True
    silent: bool = True

    @property
    def stages(self) -> tuple[str, ...]:
        """As SecAgg."""
        return ("advertise", "share", "upload", "unmask")

    @property
    def signed(self) -> bool:
        """Only where keys are checked."""
        return not self.swapped_keys

    @property
    def seed_bits(self) -> int:
        """Entropy of a mask's seed."""
        return 28 if self.weak_seeds else 256


def configure(
    clients: int,
    length: int,
    modulus_bits: int,
    *,
    threshold: int | None = None,
    **switches: Any,
) -> VulnerableParameters:
    """Parameters; half of the clients open a sum unless `threshold` is given, which is one
    too few: two halves can be told different things.
    """
    t = max(clients // 2, 2) if threshold is None else threshold
    chosen = VulnerableParameters(
        clients=clients,
        floor=t,
        length=length,
        modulus_bits=modulus_bits,
        threshold=t,
        **switches,
    )
    chosen.check()
    return chosen
