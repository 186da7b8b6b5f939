"""Keep what was computed: the in-process and the shared cache of vectors. See README.md."""
