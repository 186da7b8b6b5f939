"""Hold one room for each family of capabilities; rooms do not know each other."""
