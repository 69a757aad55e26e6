"""Sampling from a trained generator."""
