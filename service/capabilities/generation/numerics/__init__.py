"""Choose tokens and release text."""
