"""Where a command will write: tried before anything is measured or trained."""

import tempfile
from pathlib import Path

from secagg.errors import LocalError


def writable_file(path: Path) -> Path:
    """The path, if a file can be written there. LocalError with the reason otherwise."""
    if path.is_dir():
        raise LocalError(f"{path} is a folder; give the name of a file")
    if not path.parent.exists():
        raise LocalError(f"{path} cannot be written: there is no folder {path.parent}; make it")
    try:
        if path.exists():
            path.open("ab").close()
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror or error}") from None
    _try_folder(path, path.parent)
    return path


def writable_folder(path: Path) -> Path:
    """The path, if it is a folder that files can be written to, or one that can be made."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        what = "is a file" if there == path else f"cannot be made: {there} is a file"
        raise LocalError(f"{path} {what}; give the name of a folder")
    _try_folder(path, there)
    return path


def _try_folder(path: Path, folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror or error}") from None
