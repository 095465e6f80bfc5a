"""Shared code of the layers that add noise inside a network."""
