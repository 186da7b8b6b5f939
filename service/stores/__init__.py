"""Keep what was computed and what users make: caches and versioned artefacts. See README.md."""
