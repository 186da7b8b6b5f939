"""Reasons that depend on the model and its variants, or on how fields go together."""

REASONS = (
    r"Exactly one of text, texts and ids is needed",
    r"The first has no likelihood",
    r"The texts have \d+ (tokens|characters) up to",
    r"The text has \d+ tokens, .* was trained to",
    r"has no variant '",
    r"has no graph for position schemes",
    r"The position scheme '\w+' does not read",
    r"The scale is given as the number",
    r"A length belongs to the scales",
)
