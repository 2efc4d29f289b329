"""The sections of a dataset spec; `behavior.spec` has them all."""
