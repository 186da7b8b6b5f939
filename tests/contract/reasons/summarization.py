"""Reasons that depend on how values hang together, or on what is stored."""

REASONS = (
    r"\d of reviews and corpus were given",
    r"The corpus .* holds vectors without texts",
    r"Two reviews have the id",
    r"There is a set '.*' already",
    r"The set \S+ has no reviews",
)
