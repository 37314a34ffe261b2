"""Image bytes to detections: pure, no sockets, no clock of its own but for stage timings."""
