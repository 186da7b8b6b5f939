"""Speak HTTP for every room alike: calls, problems, limits, bodies, replies, health, document."""
