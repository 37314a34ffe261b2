"""Cameras at a steady rate over a fleet: the freshest frame of each, in fair shares, and what happens in them."""
