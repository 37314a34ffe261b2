"""Experiments: a scenario against platforms gives runs on disk; runs give a report."""
