"""Open language models, turn positions into what their graphs read, and run them; see README.md."""
