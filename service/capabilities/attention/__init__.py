"""Run attention variants on one layer, and count and probe what they keep; see README.md."""
