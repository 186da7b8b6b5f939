"""Place, scale and account for attention; see README.md."""
