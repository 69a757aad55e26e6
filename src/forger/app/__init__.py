"""Runs: from a config to objects, a folder and a result. The only place that knows Hydra."""
