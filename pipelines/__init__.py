"""Beam jobs: thin transforms that call `behavior` on whole Arrow batches."""
