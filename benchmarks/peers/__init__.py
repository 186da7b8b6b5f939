"""Set up and start the servers that the service is measured against."""
