"""Hold one module per model family; each turns a fetched wheel into an artefact folder."""
