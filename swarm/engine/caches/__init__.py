"""What sessions keep of their rows, and what a span takes in memory."""
