"""Run many sequences of one language model together."""
