"""Build decoder graphs: one set of weights, one ONNX graph a variant of attention."""
