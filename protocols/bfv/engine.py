"""BFV with TenSEAL (Fan, Vercauteren, ePrint 2012/144): slots are integers modulo t."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import tenseal
from numpy.typing import NDArray

from protocols.base import Parameters
from protocols.bfv.parameters import BfvParameters
from protocols.he.engine import TensealEngine, native, new_context
from protocols.he.packing import Words
from protocols.he.wire import Field
from secagg.errors import DecodeError


class BfvEngine(TensealEngine):
    """Exact integers below t, which no sum reaches."""

    load_tensor: ClassVar[Any] = tenseal.bfv_tensor_from

    def __init__(self, parameters: BfvParameters, threads: int | None = None) -> None:
        super().__init__(parameters, threads)
        self._t = parameters.plain_modulus
        self._largest = parameters.packing.largest

    def context(self) -> Any:
        """See `TensealEngine`."""
        return new_context(tenseal.SCHEME_TYPE.BFV, self.parameters, self._t, self.threads)

    def plain(self, slots: Words) -> NDArray[Any]:
        """See `TensealEngine`. SEAL wants representatives between -t/2 and t/2."""
        signed = slots.astype(np.int64)
        signed[signed > self._t // 2] -= self._t
        return signed

    def vector(self, context: Any, row: list[Any]) -> Any:
        """See `TensealEngine`."""
        return native.BFVVector(context.data, row)

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


@lru_cache(maxsize=8)
def engine_of(parameters: Parameters, threads: int | None = None) -> BfvEngine:
    """The one engine of these parameters in this process: it keeps no key."""
    assert isinstance(parameters, BfvParameters)  # noqa: S101 - the registry's pair
    return BfvEngine(parameters, threads)
