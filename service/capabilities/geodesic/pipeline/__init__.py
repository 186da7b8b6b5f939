"""Orchestrate this room: one-off measurements, and corpora that are kept."""
