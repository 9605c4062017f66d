"""For those who watch: the status, figures for Prometheus, events as they happen, and the console."""
