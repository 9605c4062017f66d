"""The command line: options and dispatch. What a command does is imported when it is run, so `swarm --help` is quick."""

from swarm.cli.commands import swarm as main

__all__ = ["main"]
