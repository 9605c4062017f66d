"""What `--json` prints after an answer. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarm.client import Answer, Client


def report(answer: Answer, client: Client) -> dict[str, Any]:
    """Everything about an answer that is over, in plain values. Seconds are seconds, layers as on the command line."""
    session = answer.session
    chain = getattr(session, "chain", None)
    stood_by, rows = getattr(session, "standby", ((), 0))
    return {
        "text": answer.text,
        "token_ids": list(answer.token_ids),
        "finish_reason": answer.finish_reason,
        "prompt_tokens": len(answer.prompt_ids),
        "model": {
            "name": client.model.name,
            "digest": client.model.digest.hex(),
            "layers": client.model.layer_count,
        },
        "precision": getattr(session, "precision", client.precision),
        "sampling": asdict(answer.options.sampling),
        "chain": [
            {"peer": str(hop.peer_id), "layers": str(hop.span), "numerics": hop.numerics, "direct": direct}
            for hop, direct in zip(chain.hops if chain else (), getattr(session, "direct", ()), strict=False)
        ],
        "recoveries": [
            {
                "peer": str(recovery.peer_id),
                "layers": str(recovery.span),
                "cause": recovery.cause,
                "moved": recovery.moved,
                "rows": recovery.position,
                "replacements": [str(peer_id) for peer_id in recovery.replacements],
                "seconds": recovery.seconds,
            }
            for recovery in getattr(session, "recoveries", ())
        ],
        "standby": {"peers": [str(peer_id) for peer_id in stood_by], "rows": rows} if stood_by else None,
        "exact": getattr(session, "exact", True),
        "timings": asdict(answer.timings)
        | {"tokens_per_second": answer.timings.tokens_per_second(len(answer.token_ids))},
    }
