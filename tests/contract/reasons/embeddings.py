"""Reasons that depend on the model, or on how values hang together."""

REASONS = (
    r"Token id \d+ is not one of this model's",
    r"\d+ dimensions were asked for",
    r"the vectors have different lengths",
    r"Vector \d+ is all zeros",
    r"data holds \d+ bytes and shape",
    r"data is not base64",
    r"every number must be finite in float32",
    r"The body is no \.npy file",
)
