"""Keep the graph of a corpus while it grows, and read distances, clusters and maps off graphs."""
