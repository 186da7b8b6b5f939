"""Build and adopt the model artefacts that the service loads; never imported by `service`."""
