"""Turn texts into sentence embeddings, each text cached on its own."""
