"""Generators and discriminators: plain modules that know nothing of training."""
