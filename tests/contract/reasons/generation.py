"""Reasons that depend on the model, on its tokenizer, or on other fields."""

REASONS = (
    r"Exactly one of text, messages and ids is needed",
    r"Temperature 0 takes the likeliest token",
    r"The map '\w+' does not read \w+",
    r"The prompt has \d+ tokens and \d+ are to be generated",
    r"At /[\w/]+ stands nothing to continue",
    r"At /[\w/]+ stand \d+ characters",
    r"\d+ (texts|tokens|contexts) were asked for and one request may have",
    r"Token id \d+ is not one of this model's",
    r"was not trained to chat",
    r"heal_prefix opens the end of a text again",
    r"logprobs cannot be given for a prompt that is echoed",
    r"max_tokens and max_completion_tokens say the same",
    r"(top_logprobs|stream_options) is read where",
    r"No token has mass in all",
    r"Keys and values of \d+ tokens need",
)
