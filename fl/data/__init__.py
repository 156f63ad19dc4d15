"""Real data in small files: the catalogue, one client's silo, the public test set.

    x, y = load_test("wearables")
    silo = load_silo("wearables", 3)

Nothing is downloaded. Every load checks the file against the SHA-256 in the catalogue.
"""

from fl.data.catalogue import CATALOGUE, DataSet, Training
from fl.data.loading import DataError, Silo, deal, find, load_silo, load_test, silo_names

__all__ = [
    "CATALOGUE",
    "DataError",
    "DataSet",
    "Silo",
    "Training",
    "deal",
    "find",
    "load_silo",
    "load_test",
    "silo_names",
]
