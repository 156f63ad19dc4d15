"""TenSEAL, behind four verbs: keys, encrypt, add, decrypt. Nothing else here talks to it.

TenSEAL makes keys, adds and decrypts. Encryption is `secagg.lpr`, step for step what SEAL does,
several times as fast and without the interpreter's lock, which no call of TenSEAL releases; what
comes out are SEAL's objects.

TenSEAL draws a key from the operating system and cannot be seeded, so a machine takes its engine
as an argument, and tests replay runs with one that remembers. Objects cross its border as single
SEAL objects (`protocols.he.wire`); TenSEAL's own framing is made on this side.
"""

import math
import struct
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import tenseal
from numpy.typing import NDArray

from protocols.he.packing import Words
from protocols.he.parameters import PRIME_BITS, HeParameters
from protocols.he.primes import prime_below
from protocols.he.wire import (
    Field,
    Form,
    bytes_of,
    fields_of,
    message_of,
    opening_of,
    packed_ints,
)
from secagg import lpr
from secagg.errors import DecodeError
from secagg.kernels._jit import cores
from secagg.prg import StreamKey

_REFUSALS = (ValueError, RuntimeError, IndexError, OverflowError, MemoryError)
_PUBLIC, _PRIVATE = 2, 3  # fields of TenSEALContextProto
_KEY = 1  # the key's field in both of its parts
_SHAPE, _CIPHERTEXTS = 1, 2  # fields of a tensor's proto
_WORD = 8  # bytes of a residue


class Keys(NamedTuple):
    """A key pair as SEAL objects."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "<Keys>"


class Encryptor(Protocol):
    """What a client needs of a scheme, for one set of parameters."""

    def check_public(self, public: bytes) -> None:
        """Raise DecodeError unless this is a public key under these parameters."""
        ...

    def encrypt(
        self, public: bytes, slots: Words, coins: StreamKey, first: int = 0
    ) -> tuple[bytes, ...]:
        """A ciphertext for each row of `slots`, (ciphertexts, slots). Or DecodeError.

        coins: a stream for one vector and nothing else; first: the number of the first
        ciphertext in that vector.
        """
        ...


class Engine(Encryptor, Protocol):
    """What the other machines need beside that."""

    def new_keys(self) -> Keys:
        """A new key pair."""
        ...

    def check(self, ciphertexts: Sequence[bytes], count: int) -> None:
        """Raise DecodeError unless these are so many ciphertexts that can be added to others."""
        ...

    def add(self, total: Sequence[bytes], other: Sequence[bytes]) -> tuple[bytes, ...]:
        """The sums of as many ciphertexts on each side. Raises DecodeError."""
        ...

    def decrypt(self, secret: bytes, ciphertexts: Sequence[bytes], clients: int) -> Words:
        """The slots of a sum over so many clients, (ciphertexts, slots). Raises DecodeError."""
        ...


class _Forms(NamedTuple):
    """What our own library writes under these parameters."""

    context: tuple[Field, ...]
    flags: tuple[Field, ...]
    public: Form
    secret: Form
    ciphertext: Form
    opening: bytes
    parms_id: tuple[int, ...]


class TensealEngine(Engine):
    """Base of both schemes; a subclass says how slots become polynomials."""

    load_tensor: ClassVar[Any]

    def __init__(self, parameters: HeParameters) -> None:
        self.parameters = parameters
        primes = (prime_below(2**bits, parameters.degree) for bits in PRIME_BITS)
        self.ring = lpr.Ring(parameters.degree, *primes)
        self._last: tuple[bytes, lpr.PublicKey] | None = None

    @abstractmethod
    def context(self) -> Any:
        """A TenSEAL context with new keys."""

    @abstractmethod
    def zeros(self, context: Any) -> Any:
        """TenSEAL's vector of one ciphertext that holds zeros."""

    @abstractmethod
    def message(self, slots: Words) -> lpr.Residues:
        """The polynomials that hold these slots, (ciphertexts, N), modulo the ring's prime."""

    @abstractmethod
    def tail(self) -> list[Field]:
        """The fields of a tensor's proto after the ciphertexts."""

    @abstractmethod
    def opened(self, plain: NDArray[Any], clients: int) -> Words:
        """Slot sums from what TenSEAL decrypts, (ciphertexts, slots)."""

    @abstractmethod
    def scale(self) -> float:
        """What SEAL keeps as the scale of a ciphertext."""

    def new_keys(self) -> Keys:
        """See `Engine`."""
        return _keys_of(_serialized(self.context(), secret=True))

    def check_public(self, public: bytes) -> None:
        """See `Engine`."""
        self._public(public)

    def encrypt(
        self, public: bytes, slots: Words, coins: StreamKey, first: int = 0
    ) -> tuple[bytes, ...]:
        """See `Engine`."""
        key, forms, flat = self._public(public), self._forms, self.parameters.scheme == "bfv"
        made = lpr.encrypt(key, self.message(slots), coins, first=first, flat=flat)
        wrap, opening = forms.ciphertext.wrap, forms.opening
        return tuple(wrap(opening + each.astype("<u8").tobytes()) for each in made)

    def check(self, ciphertexts: Sequence[bytes], count: int) -> None:
        """See `Engine`."""
        if len(ciphertexts) != count:
            raise DecodeError(f"{len(ciphertexts)} ciphertexts in a piece of {count}")
        self._load(self._no_keys, ciphertexts)

    def add(self, total: Sequence[bytes], other: Sequence[bytes]) -> tuple[bytes, ...]:
        """See `Engine`."""
        sums = self._load(self._no_keys, total)
        try:
            sums.add_(self._load(self._no_keys, other))
        except _REFUSALS:
            raise DecodeError("ciphertexts that cancel each other") from None
        return dump(sums)

    def decrypt(self, secret: bytes, ciphertexts: Sequence[bytes], clients: int) -> Words:
        """See `Engine`."""
        total = self._load(self._with_keys(secret=secret), ciphertexts)
        plain = np.array(total.decrypt().raw).reshape(self.parameters.slots, len(ciphertexts))
        return self.opened(plain.T, clients)

    def _load(self, context: Any, ciphertexts: Sequence[bytes]) -> Any:
        for raw in ciphertexts:
            self._forms.ciphertext.check(raw)
        fields = [
            (_SHAPE, packed_ints(_shape(len(ciphertexts)))),
            *((_CIPHERTEXTS, raw) for raw in ciphertexts),
            *self.tail(),
        ]
        try:
            tensor = type(self).load_tensor(context, message_of(fields, doubles=(3,)))
            loaded = tensor.ciphertext()
        except _REFUSALS:
            raise DecodeError("a ciphertext that SEAL refuses") from None
        if any(not self._usable(each) for each in loaded):
            raise DecodeError("a ciphertext of another level, scale or size")
        return tensor

    def _usable(self, ciphertext: Any) -> bool:
        return (
            tuple(ciphertext.parms_id()) == self._forms.parms_id
            and ciphertext.size() == 2
            and ciphertext.scale == self.scale()
            and ciphertext.is_ntt_form() is (self.parameters.scheme == "ckks")
            and not ciphertext.is_transparent()
        )

    @cached_property
    def _forms(self) -> _Forms:
        """Learned from one key pair and one ciphertext that are thrown away."""
        context = self.context()
        message = fields_of(_serialized(context, secret=True))
        keys = _keys_of(_serialized(context, secret=True))
        vector = self.zeros(context)
        (sample,), (public,) = dump(vector), bytes_of(message, _PUBLIC)
        ciphertext = Form.of(sample)
        return _Forms(
            tuple(f for f in message if f[0] not in {_PUBLIC, _PRIVATE}),
            tuple(f for f in fields_of(public) if f[0] != _KEY),
            Form.of(keys.public),
            Form.of(keys.secret),
            ciphertext,
            opening_of(sample, ciphertext.size - 2 * _WORD * self.ring.degree),
            tuple(vector.ciphertext()[0].parms_id()),
        )

    def _public(self, public: bytes) -> lpr.PublicKey:
        """The key that was used last: reading one takes milliseconds. Raises DecodeError."""
        if self._last is None or self._last[0] != public:
            self._last = public, self._read(public)
        return self._last[1]

    def _read(self, public: bytes) -> lpr.PublicKey:
        """A key's residues, which SEAL hands out one by one once it has checked them. Each of
        its objects lives in the one before.
        """
        context, shape = self._with_keys(public=public), (2, 2, self.ring.degree)
        key = context.data.public_key()
        words = key.data()
        residues = np.fromiter((words[at] for at in range(math.prod(shape))), np.uint64)
        return lpr.PublicKey(self.ring, residues.reshape(shape))

    @cached_property
    def _no_keys(self) -> Any:
        return self._with_keys()

    def _with_keys(self, *, public: bytes | None = None, secret: bytes | None = None) -> Any:
        """A TenSEAL context of our own parameters with these keys. Raises DecodeError."""
        forms = self._forms
        key = [] if public is None else [(_KEY, public)]
        private = [] if secret is None else [(_PRIVATE, message_of([(_KEY, secret)]))]
        if public is not None:
            forms.public.check(public)
        if secret is not None:
            forms.secret.check(secret)
        inner = message_of([*key, *forms.flags], doubles=(3,))
        fields = sorted([*forms.context, (_PUBLIC, inner), *private], key=lambda f: f[0])
        try:
            return tenseal.context_from(message_of(fields), n_threads=cores())
        except _REFUSALS:
            raise DecodeError("a key that SEAL refuses") from None


def new_context(scheme: Any, parameters: HeParameters, plain_modulus: int | None) -> Any:
    """A TenSEAL context with new keys."""
    return tenseal.context(
        scheme,
        poly_modulus_degree=parameters.degree,
        plain_modulus=plain_modulus,
        coeff_mod_bit_sizes=list(PRIME_BITS),
        n_threads=cores(),
    )


def double(value: float) -> bytes:
    """A protocol buffer's double."""
    return struct.pack("<d", value)


def dump(encrypted: Any) -> tuple[bytes, ...]:
    """The ciphertexts of a tensor or a vector."""
    return tuple(bytes_of(fields_of(encrypted.serialize()), _CIPHERTEXTS))


def _shape(ciphertexts: int) -> list[int]:
    """Of a tensor of so many. One has none: a second axis of length 1 has stride 0 in TenSEAL,
    and every slot would get the first one's value.
    """
    return [] if ciphertexts == 1 else [ciphertexts]


def _serialized(context: Any, *, secret: bool) -> bytes:
    raw: bytes = context.serialize(
        save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
    )
    return raw


def _keys_of(message: bytes) -> Keys:
    fields = fields_of(message)
    (public,), (private,) = bytes_of(fields, _PUBLIC), bytes_of(fields, _PRIVATE)
    return Keys(bytes_of(fields_of(public), _KEY)[0], bytes_of(fields_of(private), _KEY)[0])
