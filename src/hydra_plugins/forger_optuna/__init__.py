"""Search with Optuna, as Hydra finds it. Owns the place below `hydra_plugins`, not the search."""
