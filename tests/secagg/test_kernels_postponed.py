"""A process that answers one message and ends loads no numba for it; the bytes are the same."""

import subprocess
import sys

import pytest

pytest.importorskip("secagg.kernels.aes", reason="needs numba")

SMALL_THEN_LARGE = """
import sys
import numpy as np
from secagg import kernels, packing, prg, shamir
from secagg.encoding import FixedPoint

def loaded():
    return "numba" in sys.modules

def everything(size):
    key = prg.StreamKey(bytes(16), bytes(12))
    acc = np.zeros(size, np.uint32)
    prg.add_masks(acc, [key], [1])
    assert acc.tobytes() == prg.stream(key, size, np.uint32).tobytes()
    packed = packing.pack(acc & np.uint32(2**20 - 1), 20)
    assert packing.unpack(packed, 20, size).tobytes() == (acc & np.uint32(2**20 - 1)).tobytes()
    shares = shamir.deal([bytes(range(32))], [1, 2, 3], 2, key)
    assert shamir.reconstruct([1, 3], [[shares[0][0], shares[2][0]]]) == [bytes(range(32))]
    encoding = FixedPoint(16, 1.0, 4, 1)
    words = encoding.encode_words(np.full(size, 0.5), 1, key).words
    mean, _ = encoding.decode(words)
    assert abs(mean - 0.5).max() < 1e-4

kernels.postpone()
everything(1000)
assert not loaded()
with prg.use_backend(prg.available_backends()[0]):
    pass
"""

MUCH = """
import sys
from secagg import kernels
kernels.postpone()
assert not kernels.worth(kernels.LOADING // 2)
assert kernels.worth(kernels.LOADING)
assert kernels.worth(1), "from then on they are there"
assert "numba" not in sys.modules
"""

AT_ONCE = """
import sys
import numpy as np
from secagg import kernels, prg
assert kernels.worth(1), "unless it is postponed"
prg.add_masks(np.zeros(9, np.uint32), [prg.StreamKey(bytes(16), bytes(12))], [1])
assert "numba" in sys.modules
kernels.postpone()
assert kernels.worth(1), "what is loaded is used"
"""


@pytest.mark.parametrize("what", [SMALL_THEN_LARGE, MUCH, AT_ONCE], ids=["small", "much", "once"])
def test_kernels_are_loaded_once_that_takes_less_time_than_doing_without(what: str) -> None:
    done = subprocess.run([sys.executable, "-c", what], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
