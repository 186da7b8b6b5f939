"""Reasons that depend on what is stored, or on how values hang together."""

REASONS = (
    r"Vector \d+ has length \S+; Euclidean distances",
    r"Pair \d+ names item \d+; there are \d+",
    r"Items \d+ and \d+ both have the id",
    r"Item \d+ .* has neither text nor vector",
    r"The items' vectors have different lengths",
    r"the vector has \d+ bytes; float32 needs 4 a number",
    r"the vector is not base64",
    r"There is a corpus .* already",
    r"The query has \d+ numbers and the vectors have \d+",
    r"was made of vectors, so nothing says which encoder",
    r"The vectors have \d+ numbers and those of the corpus",
)
