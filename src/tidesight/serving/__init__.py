"""One instance: HTTP in, detections out. Start reading at `app.py`."""
