"""Grammars of strangers, tried in a process of their own first: some take their compiler years, and nothing stops a thread.

llguidance bounds most of its work itself; what it does not (the intersection of many patterns, divisibility by large numbers)
is found out here, within bounds of time and memory. Knows nothing of tokens.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections import OrderedDict

from swarm.errors import UsageFault

TRIAL_SECONDS = 3  # of computing; good ones take some 100 ms, most of them to start the process
WAIT_SECONDS = 30.0  # for that, on a busy machine
TRIAL_BYTES = 4 << 30  # of address space, most of which is never touched
MAX_KNOWN = 256  # grammars that passed

_PROGRAM = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({TRIAL_SECONDS}, {TRIAL_SECONDS}))
if sys.platform == "linux":
    resource.setrlimit(resource.RLIMIT_AS, ({TRIAL_BYTES}, {TRIAL_BYTES}))
from llguidance import LLMatcher, LLTokenizer
LLMatcher(LLTokenizer("byte"), sys.stdin.read(), log_level=0).compute_bitmask()
"""


class Trial:
    """Remembers which grammars passed."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()  # grammars are compiled in threads

    def check(self, kind: str, grammar: str) -> None:
        """Whether a grammar can be compiled at all, right or wrong. Raises UsageFault for one that takes too much."""
        digest = hashlib.sha256(grammar.encode()).digest()
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
                return
        try:
            # isolated: what stands in the working directory or the environment is not run
            command = [sys.executable, "-I", "-c", _PROGRAM]
            ended = subprocess.run(
                command, input=grammar.encode(), capture_output=True, timeout=WAIT_SECONDS, check=False
            )
            passed = ended.returncode == 0
        except subprocess.TimeoutExpired:
            passed = False
        if not passed:
            raise UsageFault(f"the {kind} takes too long to prepare: make it simpler")
        with self._lock:
            self._known[digest] = None
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
