"""The public parameters of a lattice session, and what is refused."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from protocols.base import Parameters, Protocol
from secagg import ringset
from secagg.errors import ParameterError
from secagg.ringset import Plan

STEP = 64
"""Polynomials in one upload message, 12 MB with set B."""

UPLOAD = "upload"
"""The stage in which an inner protocol takes vectors; it needs one of this name."""


class LatticeParameters(Parameters, frozen=True, dict=True):
    """Parameters, with the ring, the values' range and the inner protocol's parameters.

    ring: `A` or `B` (`secagg.ringset`); largest: the largest value that a client contributes,
    which decides how many share a coefficient; corrupt: most clients that collude with the
    server; step: most polynomials in one upload message; inner: of the protocol that opens the
    sum of the short keys.
    """

    ring: str
    largest: int
    corrupt: int
    step: int
    inner: Parameters

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the inner protocol: its messages and ours travel together."""
        return self.inner.stages

    @property
    def tolerated(self) -> int:
        """Where neither the known key sum nor the inner protocol gives a client away."""
        return min(super().tolerated, self.inner.tolerated)

    @property
    def signed(self) -> bool:
        """Whether the inner protocol's members sign: ciphertexts are not, see docs/lattice.md."""
        return self.inner.signed

    @cached_property
    def plan(self) -> Plan:
        """How vectors become ciphertexts. Raises ParameterError."""
        return ringset.named(self.ring, self.clients, self.length, self.largest)

    @property
    def upload_bytes(self) -> int:
        """The ciphertext."""
        return self.plan.ciphertext_bytes

    @property
    def pieces(self) -> tuple[range, ...]:
        """The chunks of each upload message."""
        chunks = range(self.plan.chunks)
        return tuple(chunks[at : at + self.step] for at in range(0, len(chunks), self.step))

    @property
    def any_suffice(self) -> bool:
        """As in the inner protocol."""
        return self.inner.any_suffice

    def check(self) -> None:
        """Raise ParameterError, in one sentence with the way out."""
        super().check()
        if not 1 <= self.largest < 2**self.modulus_bits:
            raise ParameterError(f"largest is {self.largest}; choose 1 to 2^modulus_bits - 1")
        if self.step < 1:
            raise ParameterError("a message carries at least 1 polynomial")
        if self.corrupt < 0 or self.floor - self.corrupt < 2:
            raise ParameterError(
                f"a sum of {self.floor} clients of whom {self.corrupt} collude has fewer than "
                "2 honest ones, which the security of the known key sum needs; raise floor"
            )
        self._check_inner()

    def _check_inner(self) -> None:
        """The inner session sums short keys of the same clients, for the same sums."""
        inner, plan = self.inner, self.plan
        inner.check()
        if (inner.clients, inner.floor) != (self.clients, self.floor):
            raise ParameterError("the inner protocol has other clients or another floor")
        if (inner.length, inner.modulus_bits) != (plan.ring.degree, plan.key_bits):
            raise ParameterError(
                f"the inner protocol must sum {plan.ring.degree} values of {plan.key_bits} bits"
            )
        if UPLOAD not in inner.stages or inner.helpers:
            raise ParameterError("the inner protocol needs a stage 'upload', and no helpers")


Configure = Callable[..., Parameters]


def configure(  # noqa: PLR0913 - options are keywords
    inner: Protocol,
    clients: int,
    length: int,
    modulus_bits: int,
    *,
    ring: str = "",
    largest: int | None = None,
    floor: int | None = None,
    corrupt: int = 0,
    step: int = STEP,
    inner_configure: Configure | None = None,
    **options: Any,
) -> LatticeParameters:
    """Checked parameters over `inner`; the smallest upload's ring where none is named.

    largest: by default any value below 2^modulus_bits, so that every vector has its exact sum
    modulo 2^k; name the encoding's largest value to pack more. inner_configure: how the inner
    parameters are chosen, from (clients, length, modulus_bits) and `options`; by default as
    the inner protocol does it.
    """
    Parameters(clients, min(2, clients), length, modulus_bits).check()
    most = 2**modulus_bits - 1 if largest is None else largest
    plan = ringset.named(ring, clients, length, most)
    given = {"floor": floor} if floor is not None else {}
    given |= {"corrupt": corrupt} if corrupt else {}
    choose = inner_configure or inner.configure
    short = choose(clients, plan.ring.degree, plan.key_bits, **given, **options)
    chosen = LatticeParameters(
        clients=clients,
        floor=short.floor,
        length=length,
        modulus_bits=modulus_bits,
        ring=plan.ring.name,
        largest=most,
        corrupt=corrupt,
        step=step,
        inner=short,
    )
    chosen.check()
    return chosen
