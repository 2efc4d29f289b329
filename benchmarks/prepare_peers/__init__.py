"""What `benchmarks/prepare.py` compares `lrm prepare` with, and how it measures."""
