"""Turn scores into distributions, draw from them, merge and compare them; see README.md."""
