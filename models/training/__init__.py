"""Train the small byte-level decoders from scratch, one per attention variant.

Only this package imports torch, and nothing imports this package.
"""
