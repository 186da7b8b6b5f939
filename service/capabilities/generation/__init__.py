"""Continue texts with a language model."""
