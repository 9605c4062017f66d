"""`python -m bootstrap` is `swarm bootstrap`, with the same options."""

import runpy
import sys

sys.argv[1:1] = ["bootstrap"]
runpy.run_module("swarm", run_name="__main__")
