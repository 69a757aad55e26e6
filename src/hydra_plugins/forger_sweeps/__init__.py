"""Hydra's entrance to forger's sweeps."""
