"""Build one-layer attention graphs in memory and run them; see README.md."""
