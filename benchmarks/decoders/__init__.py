"""Measure decoder graphs: what each form of attention costs and keeps, and how fast they run."""
