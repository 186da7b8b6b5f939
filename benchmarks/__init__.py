"""Measure the service against its peers and its own bars; see README.md."""
