"""Where compiled kernels are kept: machine code, so in a folder that only its owner can write."""

import os
import sys
from pathlib import Path

from secagg.errors import LocalError
from secagg.kernels import set_cache_dir


def use_private_cache() -> None:
    """Keep compiled kernels in the user's own cache folder, mode 0700.

    Call it before the first kernel is used. Where there is no home to write to, numba's own
    choice stays. Raises LocalError where the folder belongs to somebody else.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secagg"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise LocalError(f"{folder} belongs to another user; remove it")
        folder.chmod(0o700)
    except OSError:
        return
    if "numba" in sys.modules:
        set_cache_dir(str(folder))
    else:  # it reads this when it is imported, which takes a process a quarter of a second
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
