"""Where Hydra finds the sweepers."""
