"""Scores of generated images, and the feature extractors below them."""
