"""Tokenizers that a user brings, opened from their files; see README.md."""
