"""Segment texts, draw segmentations and measure them; see README.md."""
