"""Runs scenarios on real processes: strikes, asks, measures, and tells what did not hold."""
