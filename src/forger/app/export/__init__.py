"""Exports a run's generator for other programs."""
