"""Fit, tune, apply and export sentence-embedding whitening; see README.md."""
