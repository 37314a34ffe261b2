"""Annotated pictures and detections put into a folder or an object store; `store.py` is the way in."""
