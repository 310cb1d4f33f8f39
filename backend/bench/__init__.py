"""Measurements of speed, run by `python3 -m backend bench`."""
