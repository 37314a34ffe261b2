"""Measurements of Tidesight; `python -m benchmarks` runs them and writes benchmarks/README.md."""
