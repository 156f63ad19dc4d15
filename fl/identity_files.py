"""Identity files: private keys, cards and rosters on disk.

A private key is a PKCS#8 file that only its owner can read. It is written whole or not at
all, and never over another file. With a passphrase it is encrypted under a password that
scrypt (RFC 7914) makes of it, because PKCS#8's own PBKDF2 has 2048 iterations in
`cryptography`: a guess costs 0.3 s and 128 MiB instead of a third of a millisecond. The salt
stands in a line before the key, which PEM readers skip.
"""

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unicodedata import normalize

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from secagg.errors import DecodeError, LocalError, ParameterError
from secagg.identity import (
    Card,
    Identity,
    Roster,
    card_from_json,
    card_to_json,
    roster_from_json,
    roster_to_json,
)
from secagg.rng import RandomSource

KEY_SUFFIX = ".key.pem"
CARD_SUFFIX = ".member.json"
MOST_BYTES = 64 * 1024 * 1024
"""No file of ours is longer; a longer one is not read."""
_STRETCHED = "Passphrase-Scrypt-17-8-1"
_HEADER = re.compile(_STRETCHED.encode() + rb": ([0-9a-f]{64})\r?\n")
_OTHERS = 0o077

T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """Where `create` put an identity."""

    key: Path
    card: Path


def create(folder: Path, card: Card, identity: Identity, pem: bytes) -> Files:
    """Write a new identity's two files. LocalError where one exists or cannot be written."""
    if card.member.public != identity.public:
        raise LocalError("the card is not of this identity")
    stem = re.sub(r"[^\w.-]+", "-", card.member.name).strip(".-") or "member"
    files = Files(folder / (stem + KEY_SUFFIX), folder / (stem + CARD_SUFFIX))
    if files.card.exists():
        raise _exists(files.card)
    write_new(files.key, pem, 0o600)
    try:
        write_new(files.card, card_to_json(card), 0o644)
    except LocalError:
        files.key.unlink()  # it is ours, and of a second old: nobody is listed under it
        raise
    return files


def protected_pem(identity: Identity, passphrase: str, source: RandomSource) -> bytes:
    """The private key's file; in clear where the passphrase is empty."""
    if not passphrase:
        return identity.to_pem()
    salt = source.seed()
    header = f"{_STRETCHED}: {salt.hex()}\n".encode()
    return header + identity.to_pem(_stretched(passphrase, salt))


def is_protected(pem: bytes) -> bool:
    """Whether a private key's file needs a passphrase."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem


def load_identity(path: Path, passphrase: Callable[[], str]) -> Identity:
    """A private key; `passphrase` is asked where the file needs one.

    Raises LocalError for a file that cannot be read or that others can read, DecodeError for
    a wrong passphrase or another file.
    """
    pem = read(path)
    if os.name == "posix" and path.stat().st_mode & _OTHERS:
        raise LocalError(f"{path}: others can read this private key; chmod 600 it, or replace it")
    password = _password(pem, passphrase()) if is_protected(pem) else None
    return named(path, lambda: Identity.from_pem(pem, password))


def load_card(path: Path) -> Card:
    """A card whose signature verifies. Raises LocalError, DecodeError, ParameterError."""
    return named(path, lambda: card_from_json(read(path)))


def load_roster(path: Path) -> Roster:
    """A roster. Raises LocalError, DecodeError, ParameterError."""
    return named(path, lambda: roster_from_json(read(path)))


def save_roster(path: Path, roster: Roster, *, new: bool) -> None:
    """Write a roster whole or not at all; `new` refuses to replace one."""
    if new:
        write_new(path, roster_to_json(roster), 0o644)
    else:
        _write(path, roster_to_json(roster), 0o644, os.replace)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """A new file: all of it, durably, or LocalError and nothing. It replaces no other."""
    _write(path, data, mode, os.link)


def read(path: Path) -> bytes:
    """A file's content. LocalError where it cannot be read or is far too long."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise LocalError(f"{path}: longer than any file of this program")
    return data


def named(path: Path, decode: Callable[[], T]) -> T:
    """What `decode` returns; its refusal names the file."""
    try:
        return decode()
    except (DecodeError, ParameterError) as error:
        raise type(error)(f"{path}: {error}") from None


def _write(path: Path, data: bytes, mode: int, place: Callable[[str, Path], None]) -> None:
    """To a file beside it first, with its mode from the start; then `place` under its name."""
    beside = ""
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".secagg-")  # mode 0600
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        place(beside, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        if beside:
            Path(beside).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exists(path: Path) -> LocalError:
    return LocalError(f"{path} exists and is left as it is; choose another name or folder")


def _password(pem: bytes, passphrase: str) -> bytes:
    if not passphrase:
        raise ParameterError("the private key is protected, and no passphrase was given")
    found = _HEADER.match(pem)
    if found is None:  # made by another tool
        return _clean(passphrase)
    return _stretched(passphrase, bytes.fromhex(found[1].decode()))


def _stretched(passphrase: str, salt: bytes) -> bytes:
    key = Scrypt(salt=salt, length=32, n=2**17, r=8, p=1).derive(_clean(passphrase))
    return key.hex().encode()


def _clean(passphrase: str) -> bytes:
    """One passphrase, however a keyboard composes its letters."""
    return normalize("NFC", passphrase).encode()
