"""What benchmarks/recommend.py measures beside recommendations, and with."""
