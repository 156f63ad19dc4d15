"""Tests of the machines: one battery for all protocols, and the attacks on `masking`."""
