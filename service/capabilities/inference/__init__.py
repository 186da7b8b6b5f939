"""Serve the Open Inference Protocol, version 2, over the encoders of this service."""
