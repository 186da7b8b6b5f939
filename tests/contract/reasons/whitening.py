"""Reasons that depend on what vectors are to each other, to k, and to a transform."""

REASONS = (
    r"\d+ pairs that differ are too few for \d+ folds",
    r"1 vector came; a whitening needs",
    r"vectors are the same",
    r"samples span only",
    r"was given for vectors without a model",
    r"they did not come from it",
    r"has no pooling",
    r"vectors have no geometry",
    r"\d+ neighbours were asked for",
    r"looks at neighbours, and a single vector",
    r"is so long that its image does not fit",
    r"It lies at the mean of all",
    r"The result does not fit float32",
    r"pairs are too few",
    r"a rank correlation needs scores that differ",
    r"names row \d+",
    r"pairs of row numbers need them",
    r"dimensions and the transform \S+ takes",
    r"is bound to no encoder",
    r"was fitted on",
    r"settings and \d+ are the most",
    r"The idempotency key '.*' was used for another request",
    r"which was deleted since",
    r"/seed: must be a whole number",  # the schema's largest, as a float, is one more
)
