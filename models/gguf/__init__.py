"""Read GGUF files: metadata, tensors as they lie in the file, and their blocks as numbers."""
