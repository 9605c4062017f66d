"""Where words go: generated text to stdout, everything else to stderr. Turns what happens in a session into sentences."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from swarm.cli.chat.blocks import visible
from swarm.trace import Event, Trace, log_to

NOISY = ("kademlia", "rpcudp", "asyncio")  # loggers that speak of every lost datagram


class Output:
    """Keeps text and notes apart, also on a terminal that shows both.

    Strangers' workers have their part in both: a terminal is shown control characters and not given them, a file or a pipe
    gets the text as it is.
    """

    def __init__(self, text: TextIO | None = None, notes: TextIO | None = None) -> None:
        self._text = text or sys.stdout
        self._notes: TextIO | None = notes or sys.stderr
        self._together = self._text.isatty() and self._notes is not None and self._notes.isatty()
        self._in_line = False  # text was written that does not end its line
        self._last = ""

    def text(self, text: str) -> None:
        """Generated text, at once."""
        if text:
            self._text.write(visible(text) if self._text.isatty() else text)
            self._text.flush()
            self._in_line = not text.endswith("\n")
            self._last = ""

    def end_text(self) -> None:
        """The answer is over: a terminal's prompt belongs on a line of its own, a file gets not one byte more."""
        if self._in_line and self._text.isatty():
            self._text.write("\n")
            self._text.flush()
        self._in_line = False

    def note(self, text: str) -> None:
        """A line on stderr; the same line twice in a row is said once.

        A stderr that takes no more – its reader has left, its disk is full – is written to no longer: what is done goes on
        whatever becomes of the words about it.
        """
        if text == self._last or self._notes is None:
            return
        self._last = text
        newline = "\n" if self._together and self._in_line else ""
        self._in_line = self._in_line and not self._together
        try:
            self._notes.write(f"{newline}swarm: {visible(text) if self._notes.isatty() else text}\n")
            self._notes.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self._notes = None

    def listen(self, event: Event) -> None:
        """A trace listener."""
        sentence = sentence_of(event)
        if sentence:
            self.note(sentence)


def sentence_of(event: Event) -> str | None:
    """What a person should be told of an event, if anything."""
    details = event.details
    match event.name, event.phase:
        case "catalog.model", "failed":
            return f"{details.get('path')} is left out: {details.get('error')}"
        case "session.wait", "failed":
            return f"waiting for a worker: {details.get('missing')}"
        case "session.failover", "started":
            return f"peer {details.get('peer')} failed ({details.get('error')}): replacing it for layers {details.get('layers')}"
        case "session.failover", "complete":
            return (
                f"recovered in {details.get('seconds')} s: layers {details.get('layers')} are with {details.get('to')}, "
                f"{details.get('rows')} rows were replayed"
            )
        case "session.audit", "failed":
            return (
                f"the replacement of {details.get('lost')} computed other rows for layers {details.get('layers')}: "
                "asking a third peer who is right"
            )
        case "session.exactness", "failed" if details.get("opening"):
            return "the workers of this chain compute in different numerics classes: the answer is not bit-exact"
        case "session.exactness", "failed":
            return "the replacement computes in another numerics class: from here on the answer is not bit-exact"
        case "hop.receipt", "failed":
            return f"the end of this answer may be wrong: {details.get('error')}"
        case "session.edge", "failed":
            return (
                f"peer {details.get('peer')} does not hand rows to {details.get('next')} ({details.get('error')}): they go "
                "by this client, which takes longer"
            )
        case "engine.numerics", "failed":
            return f"torch's kernels compute, whose bits hold among like machines only: {details.get('reason')}"
        case "peers.ban", "complete":
            return (
                f"peer {details.get('peer')} lied, and an answer that it took part in may be wrong: it is banned for "
                f"{details.get('seconds', 0) / 3600:.0f} h ({details.get('reason')})"
            )
        case "peers.ban", "failed":
            return f"peer {details.get('peer')} lied and is banned while this runs, but {details.get('error')}"
        case "audit", "failed" if details.get("verdict") == "unsettled":
            return (
                f"peer {details.get('peer')} and others ({details.get('by')}) computed different rows for layers "
                f"{details.get('layers')}, and nobody can say who is right: they are avoided for a while"
            )
        case "embed.cut", "complete":
            tokens, most = details.get("tokens"), details.get("most")
            return f"warning: a text of {tokens} tokens is cut to the {most} that the model's files allow"
        case "worker.announce", "failed":
            return f"the swarm could not be told of this worker ({details.get('error')}): trying again"
    return None


class JsonLines(logging.Formatter):
    """A log line as a JSON object, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        event = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(event, Event):
            line |= {"event": event.name, "phase": event.phase}
            line = {key: str(value) for key, value in event.details.items()} | line
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def make_trace(verbose: bool, output: Output | None = None, log: str = "text") -> Trace:
    """Sentences for the user; with `verbose` every event as a log line on stderr too.

    With `log` "json" there are no sentences: every line is an object, failures always and the rest with `verbose`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if log == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.WARNING)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING if verbose else logging.ERROR)
    trace = Trace()
    if output is not None and log != "json":
        trace.listen(output.listen)
    if verbose or log == "json":
        trace.listen(log_to(logging.getLogger("swarm")))
    return trace
