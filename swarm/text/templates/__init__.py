"""From messages to a prompt: a model's own Jinja template in a sandbox, or the convention it was trained on."""
