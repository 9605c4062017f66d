"""HTTP over clients: what programs that talk to a model already speak. Told what it serves and its status; knows no node."""
