"""Sends a load to a URL and says truthfully what came of it: an open or closed loop of its own, Locust, or JMeter."""
