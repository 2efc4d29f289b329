"""Beam jobs: thin transforms that call `behavior` on whole Arrow batches."""

from pipelines.quiet import quiet_beam

with quiet_beam():
    import apache_beam as apache_beam
