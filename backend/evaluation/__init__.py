"""Measures of results against the true objects of the built-in world."""
