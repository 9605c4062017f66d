"""Who computes which layers: chains from records and measurements, spans for new workers. Pure: no clock, no network."""
