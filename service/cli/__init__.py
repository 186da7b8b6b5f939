"""Give the service its commands; heavy imports wait until a command needs them."""
