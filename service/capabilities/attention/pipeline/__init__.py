"""Compute what this room answers; see README.md."""
