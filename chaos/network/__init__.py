"""The network between processes: links through a proxy or a switch, each with a weather of its own."""
