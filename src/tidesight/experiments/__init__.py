"""Experiments: a scenario against fleets or URLs, repeated and recorded."""
