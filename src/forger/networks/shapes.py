"""The shape of an image, as networks are told it."""

ImageShape = tuple[int, int, int]
"""Channels, height, width."""
