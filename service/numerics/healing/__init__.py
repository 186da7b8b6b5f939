"""Re-open the end of a prompt that breaks off inside a piece."""
