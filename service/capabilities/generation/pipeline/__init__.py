"""Prompts in, events out."""
