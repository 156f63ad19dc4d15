"""Imported once by the fork server: all that every client process would do first.

Torch and the kernels take a second to load and nothing to inherit. No thread is started and
no secret exists here.
"""

from fl.kernel_cache import use_private_cache
from fl.runner import client, helper, observer
from fl.training import configure
from secagg.warm import warm_up

use_private_cache()
configure(threads=1)
for _ in warm_up():
    pass

__all__ = ["client", "helper", "observer"]
