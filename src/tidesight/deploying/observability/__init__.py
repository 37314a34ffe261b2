"""Prometheus, Grafana and Google Cloud Monitoring, generated from the catalogue in `tidesight.telemetry`."""
