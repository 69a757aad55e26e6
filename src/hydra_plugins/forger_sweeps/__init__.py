"""Where Hydra finds the sweeps."""
