"""An answer in figures: the status line while it comes, `/stats` afterwards, its chain. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarm.client import Answer

MAX_HOPS = 6  # that a line names


def count(number: int, what: str) -> str:
    """`1 token`, `2 tokens`, `2 recoveries`."""
    if number == 1:
        return f"1 {what}"
    return f"{number} {what[:-1]}ies" if what.endswith("y") else f"{number} {what}s"


def chain_line(session: Any) -> str:
    """Who computes what, in a few words."""
    chain = getattr(session, "chain", None)
    if chain is None:
        return "computed here"
    hops = [f"{hop.peer_id.short} {hop.span}" for hop in chain.hops]
    more = len(hops) - MAX_HOPS
    return " → ".join(hops[:MAX_HOPS]) + (f" → {more} more" if more > 0 else "")


def status_line(answer: Answer) -> str:
    """Speed, length, chain and recoveries, as far as there are any."""
    if answer.session is None:
        return "looking for a chain"
    tokens, session = len(answer.token_ids), answer.session
    if not tokens:
        return f"reading {count(len(answer.prompt_ids), 'token')} · {chain_line(session)}"
    speed = answer.timings.tokens_per_second(tokens)
    recoveries = len(getattr(session, "recoveries", ()))
    parts = [
        "" if speed is None else f"{speed:.1f} tokens/s",
        count(tokens, "token"),
        count(recoveries, "recovery") if recoveries else "",
        "" if getattr(session, "exact", True) else "not exact",
        chain_line(session),
    ]
    return " · ".join(filter(None, parts))


def stats(answer: Answer) -> str:
    """A line for each figure."""
    session, timings, tokens = answer.session, answer.timings, len(answer.token_ids)
    recoveries = getattr(session, "recoveries", ())
    speed = timings.tokens_per_second(tokens)
    cached = f", {answer.cached_tokens} of them kept from before" if answer.cached_tokens else ""
    figures = {
        "prompt": count(len(answer.prompt_ids), "token") + cached,
        "answer": f"{count(tokens, 'token')}, {_ending(answer)}",
        "tokens/s": "–" if speed is None else f"{speed:.2f}",
        "chain opened in": _seconds(timings.opening) if session else "–",
        "first token after": _seconds(timings.opening + timings.first_token) if tokens else "–",
        "longest gap": _seconds(timings.longest_gap) if tokens > 1 else "–",
        "recoveries": str(len(recoveries)),
        "rows replayed": str(sum(recovery.position for recovery in recoveries)),
        "exact": "yes" if getattr(session, "exact", True) else "no: workers of two numerics classes took part",
        "seed": f"{answer.options.sampling.seed}{' (greedy: not used)' if answer.options.sampling.greedy else ''}",
    }
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in figures.items())


def chain_lines(answer: Answer | None) -> str:
    """A line for each hop and for each worker that was left."""
    if answer is None or answer.session is None:
        return "no answer yet"
    chain = getattr(answer.session, "chain", None)
    if chain is None:
        return "every layer is computed in this process"
    lines = [f"layers {hop.span}: {hop.peer_id.short} at {hop.addresses[0]}" for hop in chain.hops]
    lines += [
        f"layers {recovery.span} moved from {recovery.peer_id.short} in {recovery.seconds:.2f} s: {recovery.cause}"
        for recovery in getattr(answer.session, "recoveries", ())
    ]
    return "\n".join(lines)


def _ending(answer: Answer) -> str:
    if answer.context_full:
        return "ended as the context is full"
    return {"stop": "complete", "length": "ended at max_tokens"}.get(answer.finish_reason or "", "stopped early")


def _seconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"
