"""Reasons that depend on the tokenizer, or on how values hang together."""

REASONS = (
    r"is not possible for .*, which is of the kind",
    r"has no meaning for method=",
    r"cannot be returned: ",
    r"The id \d+ is none of this tokenizer's",
    r"Give exactly one of text and texts",
    r"A segmentation belongs to one text",
    r"is no segmentation of the text",
    r"distinct paths were asked for",
    r"The file is no (SentencePiece model|tokenizer\.json|BytePiece model)",
    r"The file holds no piece",
    r"^(Piece \d+|A piece|The piece) ",
    r"The tokenizer file (is empty|cannot be used)",
    r"cannot name an artefact|names? .*artefact",
    r"The text has \d+ bytes and a picture shows",
    r"belongs to a model",
    r"is the tokenizer of a model",
)
