"""Embed and compare texts; see README.md."""
