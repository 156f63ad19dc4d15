"""CKKS with TenSEAL (Cheon et al., ASIACRYPT 2017): slots are real numbers."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import tenseal
from numpy.typing import NDArray

from protocols.base import Parameters
from protocols.ckks import embedding
from protocols.ckks.parameters import CkksParameters, centre
from protocols.he.engine import TensealEngine, double, new_context
from protocols.he.packing import Words
from protocols.he.wire import Field
from secagg import lpr
from secagg.errors import DecodeError


class CkksEngine(TensealEngine):
    """Integers, centred at zero, at a scale at which rounding gives the exact sum back."""

    load_tensor: ClassVar[Any] = tenseal.ckks_tensor_from

    def __init__(self, parameters: CkksParameters) -> None:
        super().__init__(parameters)
        self._scale = 2.0**parameters.scale_bits
        self._centre = centre(parameters.packing)
        self._largest = parameters.packing.largest

    def context(self) -> Any:
        """See `TensealEngine`."""
        context = new_context(tenseal.SCHEME_TYPE.CKKS, self.parameters, None)
        context.global_scale = self._scale
        return context

    def zeros(self, context: Any) -> Any:
        """See `TensealEngine`."""
        return tenseal.ckks_vector(context, [0.0] * self.parameters.slots)

    def message(self, slots: Words) -> lpr.Residues:
        """See `TensealEngine`: real slots, and the scale."""
        reals = (slots.astype(np.int64) - self._centre).astype(np.float64)
        coefficients = np.rint(embedding.inverse(reals) * self._scale).astype(np.int64)
        return (coefficients + (coefficients >> 63 & self.ring.prime)).astype(np.uint64)

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
def engine_of(parameters: Parameters) -> CkksEngine:
    """The one engine of these parameters in this process: it keeps no key."""
    assert isinstance(parameters, CkksParameters)  # noqa: S101 - the registry's pair
    return CkksEngine(parameters)
