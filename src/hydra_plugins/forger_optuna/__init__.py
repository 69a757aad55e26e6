"""Where Hydra finds the search with Optuna."""
