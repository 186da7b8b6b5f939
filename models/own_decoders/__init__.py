"""Adopt a user's own language model, from a GGUF file or an exported ONNX folder."""
