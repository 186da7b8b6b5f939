"""Pure arithmetic on arrays: no I/O, no framework, no clock."""
