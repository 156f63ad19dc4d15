"""The federated layer: local training, rounds, real processes, the demo and its report."""
