"""Summarize opinions with sentences of the reviews themselves; see README.md."""
