"""Stand-ins written by hand; each passes the suite of what it stands for."""
