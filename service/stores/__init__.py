"""Keep what was computed and what users make: the caches, and versioned artefacts. See README.md."""
