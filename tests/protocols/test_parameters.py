"""Masking parameters that cannot be safe are refused, in one sentence with the way out."""

import pytest
from msgspec.structs import replace

from protocols.masking import MaskingParameters, configure, sparse
from protocols.plain import configure as configure_plain
from secagg.errors import ParameterError
from secagg.graph import choose_parameters

GOOD = configure(10, 8, 32)
SPARSE = sparse(40, 8, 32, corrupt=0.05, dropout=0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clients": 1}, "needs at least 2"),
        ({"floor": 11}, "lower it"),
        ({"floor": 1}, "use 2 or more"),
        ({"length": 0}, "must be at least 1"),
        ({"modulus_bits": 0}, "choose 1 to 64"),
        ({"modulus_bits": 65}, "choose 1 to 64"),
        ({"threshold": 11}, "not between 2 and the 10 holders"),
        ({"threshold": 1}, "not between 2 and the 10 holders"),
        ({"threshold": 7}, "raise the floor"),
        ({"threshold": 4, "corrupt": 4}, "met by the 4 corrupt clients"),
        ({"corrupt": 5}, "may reveal a single honest client"),
        ({"corrupt": -1}, "lower corrupt"),
        ({"degree": 5}, "choose an even number"),
        ({"degree": 0}, "choose an even number"),
        ({"degree": 12}, "choose an even number"),
        ({"degree": 4, "threshold": 3}, "does not hide 10 clients"),
        ({"suite": "RSA"}, "choose one of X25519"),
        ({"adversary": "malicious"}, "choose 'semi-honest' or 'active'"),
        ({"adversary": "active", "threshold": 5}, "two different sums; take at least 6"),
        ({"adversary": "active", "threshold": 6, "corrupt": 3}, "sums; take at least 7"),
        ({"adversary": "active", "degree": 4, "threshold": 5}, "needs the complete graph"),
        ({"chunk": 12}, "multiple of 8"),
        ({"chunk": 0}, "multiple of 8"),
    ],
)
def test_refusals(change: dict, says: str) -> None:
    with pytest.raises(ParameterError, match=says) as refused:
        replace(GOOD, **change).check()
    assert "\n" not in str(refused.value)


def test_no_active_parameters_let_two_sums_be_confirmed() -> None:
    """By counting: two sets of t members share an honest one, and every sum has two of them."""
    for n in range(2, 9):
        for t in range(1, n + 2):
            for c in range(n + 1):
                change = {"clients": n, "degree": n - 1, "threshold": t, "corrupt": c}
                chosen = replace(GOOD, adversary="active", floor=max(t, 2), **change)
                safe = 2 * t - n > c and t - c >= 2 and 2 <= t <= n
                if safe:
                    chosen.check()
                    continue
                with pytest.raises(ParameterError):
                    chosen.check()


@pytest.mark.parametrize(("corrupt", "threshold"), [(0, 6), (1, 6), (2, 7), (3, 7), (4, 8)])
def test_active_mode_configures_itself(corrupt: int, threshold: int) -> None:
    chosen = configure(10, 8, 32, adversary="active", corrupt=corrupt)
    assert (chosen.threshold, chosen.floor) == (threshold, threshold)
    assert chosen.active
    assert chosen.stages == ("advertise", "share", "upload", "consistency", "unmask")
    assert not GOOD.active
    assert GOOD.stages == ("advertise", "share", "upload", "unmask")
    with pytest.raises(ParameterError):
        replace(chosen, threshold=(10 + corrupt) // 2).check()


def test_what_is_sealed_for_a_neighbour_has_this_size() -> None:
    """32 bytes and two shares of 36; 16 of a tag; a KEM's ciphertext where there is a KEM."""
    assert replace(GOOD, suite="X25519").sealed_bytes == 32 + 2 * 36 + 16
    assert GOOD.sealed_bytes == 32 + 2 * 36 + 16 + 1088


def test_a_server_that_would_hold_too_much_is_refused() -> None:
    with pytest.raises(ParameterError, match="use a k-regular graph"):
        configure(3000, 8, 32)


def test_defaults_are_those_of_the_design() -> None:
    assert (GOOD.threshold, GOOD.floor, GOOD.degree) == (6, 6, 9)
    assert GOOD.suite == "MLKEM768-X25519"
    assert configure(10, 8, 32, corrupt=3).threshold == 7
    assert configure(2, 8, 32).threshold == 2
    assert configure_plain(10, 8, 32).floor == 6


def test_sparse_parameters_are_those_that_were_chosen() -> None:
    degree, threshold = choose_parameters(40, 0.05, 0.1, "semi-honest")
    assert (SPARSE.degree, SPARSE.threshold) == (degree, threshold)
    assert (SPARSE.floor, SPARSE.corrupt) == (36, 2)
    assert not SPARSE.complete


def test_a_sparse_graph_with_a_smaller_threshold_or_more_dropouts_is_refused() -> None:
    with pytest.raises(ParameterError, match="take both from"):
        replace(SPARSE, threshold=2).check()
    with pytest.raises(ParameterError, match="take both from"):
        replace(SPARSE, floor=20).check()


@pytest.mark.parametrize(("bits", "zeros"), [(1, 64), (7, 10), (16, 4), (32, 2), (33, 2), (64, 1)])
def test_the_canary_has_64_bits_at_least(bits: int, zeros: int) -> None:
    parameters: MaskingParameters = replace(GOOD, modulus_bits=bits)
    assert parameters.canary_zeros == zeros
    assert zeros * bits >= 64
    assert parameters.masked_length == 8 + zeros + 1
    assert [p.stop - p.start for p in parameters.pieces] == [parameters.masked_length]
