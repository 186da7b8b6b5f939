"""Rank, choose and support sentences: arrays in, arrays out."""
