"""The report says what the result says, loads nothing, and shows what an update gives away."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from fl.data import load_silo
from fl.demo.picture import (
    RECOVERED,
    SHOWN,
    Scores,
    as_if_clear,
    digits_picture,
    expose,
)
from fl.demo.report import (
    implied_command,
    max_gap,
    mean_bytes,
    render,
    stages_of,
    was_exact,
    write_report,
)
from fl.demo.result import Curves, Dataset, DemoResult, Dropped, Round
from fl.inversion import PSNR_CAP
from fl.models import build
from fl.runner.events import Seen
from fl.runner.frames import ClearUpdate
from fl.settings import Settings
from fl.training import configure, train
from fl.updates import encode_update
from protocols.base import Session
from protocols.driver import run
from secagg.rng import SeededSource

SECONDS = {"advertise": 0.1, "share": 0.2, "upload": 0.7, "unmask": 0.05}


@pytest.mark.parametrize(
    ("protocol", "grows"),
    [
        ("masking", "grows with the number of neighbours, not with the model"),
        ("lattice", "the ciphertext is longer, and keys and shares"),
        ("committee", "a share of its key for each decryptor"),
        ("ckks", "it grows with the model"),
        ("bfv", "it grows with the model"),
        ("plain", None),
    ],
)
def test_what_a_client_sends_beside_the_vector_is_said_for_each_protocol(protocol, grows) -> None:
    page = render(a_result(protocol=protocol), None)
    assert ("The rest" in page) == (grows is not None)
    assert grows is None or grows in page
    assert ("with the number of neighbours" in page) == (protocol in {"masking", "lattice"})


def one_round(number, **changed):
    ordinary = Round(
        round=number,
        uploaded=(1, 2, 3, 4),
        dropped=(),
        max_abs_error=0,
        quantisation_error=9.3e-8,
        clipped=0,
        upload_bytes=41_234.0,
        stage_seconds=SECONDS,
        aborted="",
    )
    return msgspec.structs.replace(ordinary, **changed)


def a_result(*rounds, **changed):
    rounds = rounds or (
        one_round(1),
        one_round(2, uploaded=(1, 3, 4), dropped=(Dropped(2, "share"), Dropped(4, "unmask"))),
        one_round(3),
    )
    n = len(rounds)
    secure = tuple(0.5 + 0.1234 * i / n for i in range(1, n + 1))
    ordinary = DemoResult(
        protocol="masking",
        suite="MLKEM768-X25519",
        clients=4,
        seed=7,
        model_parameters=7943,
        modulus_bits=32,
        threshold=3,
        dataset=Dataset("digits", "a source", "a licence", 1797, tuple("ABCD"), "5ab1" * 16),
        accuracy=Curves(secure, tuple(s - 0.0031 for s in secure), (0.31, 0.32, 0.33, 0.36)),
        auc={"secure": (0.9,) * n, "plain": (0.8765,) * n, "alone": (0.7,) * 4},
        rounds=rounds,
        seconds=12.34,
        versions={"numpy": "2.4.6"},
    )
    return msgspec.structs.replace(ordinary, **changed)


@pytest.fixture(scope="module")
def masked():
    return digits_picture(3)


@pytest.fixture(scope="module")
def clear():
    return digits_picture(3, "plain")


class Page(HTMLParser):
    """The tags, and the text outside of styles, of a page."""

    def __init__(self, source):
        super().__init__()
        self.source = source
        self.tags, self.words, self._in_style = [], [], False
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag):
        self._in_style = False

    def handle_data(self, data):
        if not self._in_style:
            self.words.append(data)

    def attributes(self, *names):
        return [value for _, attrs in self.tags for name, value in attrs.items() if name in names]


def page_of(result, exposure, **options):
    return Page(render(result, exposure, **options))


@pytest.fixture(scope="module")
def page(masked):
    return page_of(a_result(), masked)


def test_the_page_and_the_picture_lie_side_by_side(masked, page, tmp_path):
    report, picture = write_report(a_result(), masked, tmp_path)
    assert report.read_text("utf-8").count("<img") == page.source.count("<img")
    assert (report, picture) == (tmp_path / "report.html", tmp_path / "picture.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 1_000_000
    assert report.stat().st_size < 3_000_000


def test_nothing_is_loaded(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "audio", "video", "base"}
    assert all(source.startswith("data:") for source in page.attributes("src"))
    assert all(target.startswith("#") for target in page.attributes("href", "xlink:href"))
    assert "http" not in page.source.replace("http-equiv", "")
    assert "@import" not in page.source
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", page.source))
    assert "default-src 'none'" in page.source


def test_ids_are_unique_and_references_lead_somewhere(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    wanted = re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", page.source)
    assert {a or b for a, b in wanted} <= set(ids)


def test_every_image_has_words(page):
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 2 + 3 * SHOWN + 3
    assert all(attrs.get("alt") for attrs in images)
    drawings = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(drawings) == 5
    assert all(attrs["aria-label"].endswith(".") for attrs in drawings)


def test_colours_follow_the_page(page):
    assert "prefers-color-scheme: dark" in page.source
    drawings = "".join(re.findall(r"<svg.*?</svg>", page.source, re.S))
    assert "var(--ink)" in drawings
    assert not re.findall(r"#0[0-9a]0[0-9a]0[0-9a]\b", drawings)
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", page.source))
    assert used <= set(re.findall(r"--([a-z0-9-]+):", page.source))


@pytest.mark.parametrize("section", ["picture", "accuracy", "clients", "rounds", "limits", "run"])
def test_all_sections_are_there(page, section):
    assert section in page.attributes("id")


@pytest.mark.parametrize(
    "words",
    [
        "4 clients trained one model. The server saw none of their updates.",
        "7,943 parameters on digits over 3 rounds",
        "MLKEM768-X25519; a client dropped out 2 times",
        "no single update, weight or sample count",
        "Yes, in all 3 rounds",
        "Accuracy, secure 62.3 % AUC 0.900",
        "Accuracy, in clear 62.0 % AUC 0.876",
        "Accuracy, alone (mean) 33.0 % 31.0 % to 36.0 %",
        "0.31 points",
        "41.2 kB 5.19 bytes a parameter, 4.00 of them the vector",
        "1 of 1 still gave the exact sum",
        "12.3 s baselines included",
        "29.3 points above their mean",
        "2 (share), 4 (unmask)",
        "in the sum, dropped at unmask afterwards",
        "dropped at share: 1",
        "3 of 4 clients",
        "A malicious model sent to all",
        "Differencing over rounds",
        "5ab1" * 16,
        "a licence",
        "numpy 2.4.6",
        "secagg demo --data digits --protocol masking --suite MLKEM768-X25519 --clients 4 "
        "--rounds 3 --seed 7",
    ],
)
def test_the_words_are_those_of_the_result(page, words):
    assert words in page.text


def test_the_verdict_is_that_of_the_exposure(page, masked):
    clear, received = masked.scores.clear, masked.scores.received
    assert f"{(clear >= RECOVERED).sum()} of {len(clear)} records come back" in page.text
    assert f"none: the best is r = {received.max():.2f}" in page.text
    for reading in masked.readings:
        assert f"r = {reading.clear.correlation:.2f} {reading.clear.psnr:.0f} dB" in page.text


def test_what_the_caller_counted_is_told(masked):
    page = page_of(a_result(), masked, killed=11, command="secagg demo --drop share=2")
    assert "a process was killed 11 times" in page.text
    assert "Processes killed 11" in page.text
    assert "secagg demo --drop share=2" in page.text
    assert implied_command(a_result()) not in page.text


def test_names_are_escaped(masked):
    evil = "<script>alert('$x_1$ & y')</script>"
    data = Dataset(evil, evil, evil, 1, (evil,) * 4, evil)
    lost = one_round(1, dropped=(Dropped(1, evil),), aborted=evil)
    result = a_result(lost, one_round(2, stage_seconds={evil: 1.0}), dataset=data)
    about = replace(masked.dataset, title=evil, record=evil)
    strange = replace(masked, dataset=about, client=evil)
    page = page_of(result, strange, images=masked, command=evil)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in page.source
    assert evil in page.text


def test_a_plain_run_is_not_called_secure(clear):
    page = page_of(a_result(protocol="plain", suite=""), clear)
    assert "The server saw all of their updates." in page.text
    assert "Every client's update, in clear" in page.text
    assert "it gives records away" in page.text
    assert "Protocol plain is the baseline" in page.text
    assert "Accuracy, secure" not in page.text
    assert "cannot open a single update" not in page.text
    assert "suite none" in page.text


def test_an_aborted_round_is_told(masked):
    nothing = {"uploaded": (), "max_abs_error": None, "quantisation_error": None}
    lost = one_round(2, **nothing, upload_bytes=0.0, aborted="2 shares, 3 needed", dropped=())
    lost = msgspec.structs.replace(lost, stage_seconds={"advertise": 0.1, "share": 0.2})
    result = a_result(one_round(1), lost)
    page = page_of(result, masked)
    assert "Yes, in the only round that gave one:" in page.text
    assert "Round 2 gave no sum and left the model as it was." in page.text
    assert "no sum: 2 shares, 3 needed" in page.text
    assert "0 of 1 still gave the exact sum" in page.text
    assert mean_bytes(result) == 41_234.0


def test_without_any_sum_there_is_a_report(masked):
    nothing = {"uploaded": (), "max_abs_error": None, "quantisation_error": None}
    result = a_result(one_round(1, **nothing, upload_bytes=0.0, aborted="too few"))
    assert "No round gave a sum: too few." in page_of(result, masked).text


def test_missing_scores_are_dashes(masked):
    curves = Curves(secure=(0.5,), plain=(), alone=())
    result = a_result(one_round(1), accuracy=curves, auc={"secure": (None,), "plain": ()})
    page = page_of(result, masked)
    assert "Accuracy, in clear – AUC –" in page.text
    assert "Accuracy, alone (mean) – not taken" in page.text
    assert max_gap(result) is None
    assert "Yes, in the only round" in page.text


def test_without_evidence_the_images_remain(tmp_path):
    page = Page(write_report(a_result(), None, tmp_path).report.read_text("utf-8"))
    assert "The same on images" in page.text
    assert "This run: " not in page.text


def test_without_any_picture_the_page_says_so():
    assert "this run kept no evidence" in page_of(a_result(), None).text


def test_other_data_is_shown_beside_images(masked):
    other = replace(masked, dataset=replace(masked.dataset, name="scans", picture=(4, 16)))
    page = page_of(a_result(), other, images=masked)
    assert "This run: " in page.text
    assert "Not part of the federation above" in page.text


@pytest.mark.parametrize(
    ("rounds", "mood", "words"),
    [
        ([one_round(1)], "good", "Yes, in the only round"),
        ([one_round(1), one_round(2)], "good", "Yes, in all 2 rounds"),
        (
            [one_round(1), one_round(2, max_abs_error=3)],
            "bad",
            "No: it was off in round 2, by up to 3",
        ),
        ([one_round(1, max_abs_error=None)], "", "Not known: nobody checked round 1."),
    ],
)
def test_whether_the_sum_was_exact(rounds, mood, words):
    said = was_exact(a_result(*rounds))
    assert said.mood == mood
    assert words in said.text


def test_stages_are_those_that_were_timed_or_lost_somebody():
    late = one_round(1, dropped=(Dropped(1, "later"), Dropped(2, "upload"), Dropped(3, "upload")))
    stages = stages_of(a_result(late))
    assert [stage.name for stage in stages] == [*SECONDS, "later"]
    assert [stage.lost for stage in stages] == [0, 0, 2, 0, 1]


# What an update gives away


def test_masking_hides_and_clear_does_not(masked):
    assert len(masked.readings) == SHOWN
    for reading in (*masked.readings, masked.one_record):
        assert reading.clear.correlation >= 0.9
        assert reading.received.correlation <= 0.6
        assert reading.clear.psnr > reading.received.psnr
    assert masked.one_record.clear.correlation > 0.999999
    assert 60 < masked.one_record.clear.psnr <= PSNR_CAP
    assert masked.scores.received.max() < masked.scores.chance.max() + 0.25


def test_plain_gives_the_same_away_twice(clear):
    np.testing.assert_allclose(clear.received, clear.clear, atol=1e-6)
    for reading in (*clear.readings, clear.one_record):
        assert reading.received.correlation == pytest.approx(reading.clear.correlation, abs=1e-3)


def test_a_masked_message_read_as_clear_is_uniform(masked):
    low, high = masked.received.min(), masked.received.max()
    ranks = (masked.received - low) / (high - low)
    counts, _ = np.histogram(ranks, bins=16, range=(0, 1))
    expected = len(ranks) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 60  # 15 degrees of freedom, p < 1e-6
    assert abs(np.corrcoef(masked.received, masked.clear)[0, 1]) < 0.06


@pytest.mark.parametrize("protocol", ["masking", "plain"])
def test_expose_reads_what_a_federation_kept(protocol):
    configure(threads=1)
    settings = Settings("wearables", protocol, "X25519", rounds=1, seed=2)
    source, about = SeededSource(b"expose"), settings.dataset.training
    silos = [load_silo("wearables", i, clients=10) for i in range(10)]
    updates = [
        train(build(settings.dataset.widths, 2), s.x[:32], s.y[:32], epochs=1, lr=about.lr,
              batch_size=16, seed=2)
        for s in silos
    ]  # fmt: skip
    inputs = {
        i + 1: encode_update(update, 32, settings.encoding, source).words
        for i, update in enumerate(updates)
    }
    parameters = settings.parameters(len(updates[0]))
    session = Session(protocol, parameters, source.seed(), settings.roster_digest)
    sent = run(settings.machines, session, inputs, source).transcript
    message = next(e.data for e in sent if e.sender == 4 and e.stage == "upload")
    clear = ClearUpdate(4, updates[3].astype("<f4").tobytes(), silos[3].x[:32].tobytes())
    exposure = expose(Seen(clear, message), settings)
    assert exposure.client == "person 4"
    assert exposure.dataset.name == "wearables"
    assert len(exposure.scores.clear) == 32
    np.testing.assert_array_equal(exposure.clear, updates[3].astype(np.float64))
    assert (np.abs(exposure.received - exposure.clear).max() < 1e-5) == (protocol == "plain")


def test_a_short_message_is_read_as_far_as_it_goes():
    settings = Settings("digits", "plain", clients=4, rounds=1)
    tagged = ["tag", bytes(32), [b"", bytes(40)]]
    values = as_if_clear(msgspec.msgpack.encode(tagged), 12, 5, settings)
    clip = settings.encoding.clip
    np.testing.assert_array_equal(values, [-clip] * 10 + [0.0] * 2)


def test_scores_do_not_need_many_records(masked):
    scores = masked.scores
    one = Scores(scores.clear[:1], scores.received[:1], scores.chance[:1])
    lonely = replace(masked, readings=masked.readings[:1], scores=one)
    assert "1 of 1, those that its update gives away best" in page_of(a_result(), lonely).text
