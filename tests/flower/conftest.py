"""Without flwr there is nothing to test here: `make test-flower` has it."""

from importlib.util import find_spec

HERE = find_spec("flwr") is not None
collect_ignore_glob = [] if HERE else ["test_*.py", "support.py"]
