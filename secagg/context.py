"""What a session is bound to: the two contexts, the roster and the application.

`context0` fixes who speaks which protocol with which parameters; adverts are made under it,
before anybody needs to have seen the model. `context1` adds what is trained and who takes
part, and everything after the adverts is made under it. Two parties whose views differ in
anything have different contexts, and then nothing they sealed for each other opens.
"""

from collections.abc import Iterable, Sequence

from secagg.kdf import digest, label


def roster_digest(names: Sequence[str]) -> bytes:
    """32 bytes that stand for the federation's members, in order of their numbers."""
    return digest("roster", *names)


def session_context(protocol: str, parameters: bytes, session_id: bytes, roster: bytes) -> bytes:
    """`context0`: label and version, protocol, all public parameters, session, roster."""
    return digest("context0", protocol, parameters, session_id, roster)


def bound_context(context0: bytes, application: bytes, graph_seed: bytes, adverts: bytes) -> bytes:
    """`context1`: `context0`, application digest, graph seed, Merkle root of U1's adverts."""
    return digest("context1", context0, application, graph_seed, adverts)


def application_digest(
    arrays: Iterable[tuple[str, str, Sequence[int], bytes]], configuration: bytes
) -> bytes:
    """The digest of what is trained: each array's name, dtype, shape and bytes, and the
    round's common configuration. A client computes it from the bytes that it received.
    """
    model = (
        label("array", name, dtype, label("shape", *shape), digest("array bytes", data))
        for name, dtype, shape, data in arrays
    )
    return digest("application", configuration, *model)
