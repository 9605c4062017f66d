"""`--log json`: every line on stderr is one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from swarm.cli.answer.output import Output, make_trace
trace = make_trace(False, Output(), "json")
trace.started("worker.step", rows=3)
trace.failed("gateway.request", path="/v1/models", status=404, error="there is no\\nmodel", level="deep", event="other")
logging.getLogger("elsewhere").warning("old %s", "words")
try:
    raise ValueError("broken")
except ValueError:
    logging.getLogger("elsewhere").exception("it failed")
"""


def test_every_line_is_an_object() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == ""
    failed, old, raised = map(json.loads, told.stderr.splitlines())
    assert failed.pop("time").endswith("+00:00")
    assert failed == {
        "level": "warning",
        "logger": "swarm",
        "event": "gateway.request",
        "phase": "failed",
        "path": "/v1/models",
        "status": "404",
        "error": "there is no\nmodel",
    }, "what a line always has is not overwritten"
    assert (old["logger"], old["message"]) == ("elsewhere", "old words")
    assert raised["error"].endswith("ValueError: broken")
