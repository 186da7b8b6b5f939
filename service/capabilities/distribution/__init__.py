"""Probabilities from logits, draws, merged contexts, concentration, densities; see README.md."""
