"""Measure distance along the manifold, in one request or in a kept corpus."""
