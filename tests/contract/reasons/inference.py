"""Reasons that depend on the model, or on how tensors hang together."""

REASONS = (
    r"The body is (not valid JSON|empty)",  # bytes that no schema describes
    r"There is no model '",
    r"is a tokenizer; this operation needs an encoder",
    r"At /inputs/\d+",
    r"^The inputs are \[",
    r"^(text|input_ids|attention_mask) (is|has)",
    r"has no output '",
    r"There is no text\.",
    r"Token id -?\d+ is not one of this model's",
    r"bytes behind the JSON belong to no input",
    r"A sequence of token ids is empty",
    r"A text has no tokens",
)
