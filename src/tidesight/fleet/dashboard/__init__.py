"""The live page of a fleet: `server.py` answers, `web/` is what a browser gets."""
