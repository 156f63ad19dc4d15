"""Attacks on every protocol, and on one that is weak on purpose. Not an installed package."""
