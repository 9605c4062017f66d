"""How a session's rows get from hop to hop: by the client, or handed on by the workers themselves."""
