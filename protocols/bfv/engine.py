"""BFV with TenSEAL (Fan, Vercauteren, ePrint 2012/144): slots are integers modulo t."""

from functools import cache, lru_cache
from typing import Any, ClassVar

import numpy as np
import tenseal
from numpy.typing import NDArray

from protocols.base import Parameters
from protocols.bfv.parameters import BfvParameters
from protocols.he.engine import TensealEngine, new_context
from protocols.he.packing import Words, powers_of_three
from protocols.he.wire import Field
from secagg import lpr, ntt
from secagg.errors import DecodeError


class BfvEngine(TensealEngine):
    """Exact integers below t, which no sum reaches."""

    load_tensor: ClassVar[Any] = tenseal.bfv_tensor_from

    def __init__(self, parameters: BfvParameters) -> None:
        super().__init__(parameters)
        self._t = parameters.plain_modulus
        self._largest = parameters.packing.largest

    def context(self) -> Any:
        """See `TensealEngine`."""
        return new_context(tenseal.SCHEME_TYPE.BFV, self.parameters, self._t)

    def zeros(self, context: Any) -> Any:
        """See `TensealEngine`."""
        return tenseal.bfv_vector(context, [0] * self.parameters.slots)

    def message(self, slots: Words) -> lpr.Residues:
        """See `TensealEngine`: the polynomial with these values at roots of unity modulo t."""
        values = np.empty_like(slots)
        values[:, _places(self.ring.degree)] = slots
        coefficients = lpr.transform(self.ring.degree, self._t).inverse(values)
        return lpr.scale_up(coefficients, self.ring.prime, self._t)

    def tail(self) -> list[Field]:
        """See `TensealEngine`: the batch size."""
        return [(3, self.parameters.slots)]

    def scale(self) -> float:
        """See `TensealEngine`: BFV has none."""
        return 1.0

    def opened(self, plain: NDArray[Any], clients: int) -> Words:
        """Between 0 and t. DecodeError for what is no sum of so many clients."""
        sums = plain.astype(np.int64) % self._t
        if np.any(sums > clients * self._largest):
            raise DecodeError("a slot that is no sum of so many clients")
        return sums.astype(np.uint64)


@cache
def _places(degree: int) -> NDArray[np.int64]:
    """Where the transform that holds them has the slots: SEAL's two rows are at the powers of 3
    and at their negatives, which are each other's inverses.
    """
    first = powers_of_three(degree)
    exponents = np.concatenate([first, 2 * degree - first])
    places: NDArray[np.int64] = ntt.reversed_bits(degree)[exponents // 2]
    return places


@lru_cache(maxsize=8)
def engine_of(parameters: Parameters) -> BfvEngine:
    """The one engine of these parameters in this process: it keeps no key."""
    assert isinstance(parameters, BfvParameters)  # noqa: S101 - the registry's pair
    return BfvEngine(parameters)
