"""List what a JSON Schema cannot say, one module a room: what a refusal may then say instead."""
