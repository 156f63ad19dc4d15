"""CKKS with TenSEAL (Cheon et al., ASIACRYPT 2017): slots are real numbers."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import tenseal
from numpy.typing import NDArray

from protocols.base import Parameters
from protocols.ckks.parameters import CkksParameters, centre
from protocols.he.engine import TensealEngine, double, dump, native, new_context
from protocols.he.packing import Words
from protocols.he.wire import Field
from secagg.errors import DecodeError


class CkksEngine(TensealEngine):
    """Integers, centred at zero, at a scale at which rounding gives the exact sum back."""

    load_tensor: ClassVar[Any] = tenseal.ckks_tensor_from

    def __init__(self, parameters: CkksParameters, threads: int | None = None) -> None:
        super().__init__(parameters, threads)
        self._scale = 2.0**parameters.scale_bits
        self._centre = centre(parameters.packing)
        self._largest = parameters.packing.largest

    def context(self) -> Any:
        """See `TensealEngine`."""
        context = new_context(tenseal.SCHEME_TYPE.CKKS, self.parameters, None, self.threads)
        context.global_scale = self._scale
        return context

    def plain(self, slots: Words) -> NDArray[Any]:
        """See `TensealEngine`: real numbers."""
        return (slots.astype(np.int64) - self._centre).astype(np.float64)

    def vector(self, context: Any, row: list[Any]) -> Any:
        """See `TensealEngine`."""
        return native.CKKSVector(context.data, row, self._scale)

    def encrypted(self, context: Any, plain: NDArray[Any]) -> tuple[bytes, ...]:
        """See `TensealEngine`; by TenSEAL's threads where there are several and work for them."""
        if min(self.threads, len(plain)) == 1:
            return super().encrypted(context, plain)
        tensor = tenseal.plain_tensor(plain.T, dtype="float")
        return dump(tenseal.ckks_tensor(context, tensor, scale=self._scale, batch=True))

    def tail(self) -> list[Field]:
        """See `TensealEngine`: scale and batch size."""
        return [(3, double(self._scale)), (4, self.parameters.slots)]

    def scale(self) -> float:
        """See `TensealEngine`."""
        return self._scale

    def opened(self, plain: NDArray[Any], clients: int) -> Words:
        """Round to the grid, which removes every trace of the noise from what is released
        (Li, Micciancio, EUROCRYPT 2021). DecodeError for what is no sum of so many clients.
        """
        sums: NDArray[np.float64] = np.rint(plain) + clients * self._centre
        if not np.all((sums >= 0) & (sums <= clients * self._largest)):
            raise DecodeError("a slot that is no sum of so many clients")
        return sums.astype(np.uint64)


@lru_cache(maxsize=8)
def engine_of(parameters: Parameters, threads: int | None = None) -> CkksEngine:
    """The one engine of these parameters in this process: it keeps no key."""
    assert isinstance(parameters, CkksParameters)  # noqa: S101 - the registry's pair
    return CkksEngine(parameters, threads)
