"""Segmentations of a text into pieces of a vocabulary; see README.md."""
