"""Whether answers came as they were generated: STREAMED."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome, pooled_column

SHARE_DOUBT = 0.01  # of the requests
LARGE_PIECE = 0.25  # of the answer's tokens, in the first piece
LONG_TOKENS = 8  # shorter answers may well come in two pieces
_ADVICE = "Switch off buffering of responses in the server or in the proxy before it, or measure the engine itself."


def streamed(evidence: Evidence) -> Outcome:
    """An answer that came in one piece has one time. TTFT is then that of the whole answer, and TPOT and ITL cannot be
    known. A large first piece is the same fault in part: TTFT is that of its last token."""
    tokens, first = (pooled_column(evidence.runs, name) for name in ("output_tokens", "first_event_tokens"))
    several = tokens > 1
    whole = several & (first == tokens)
    large = (tokens >= LONG_TOKENS) & (first > LARGE_PIECE * tokens) & ~whole
    count, in_one, in_few = int(several.sum()), int(whole.sum()), int(large.sum())
    numbers: dict[str, Any] = {"requests": count, "in_one_piece": in_one, "large_first_piece": in_few}
    if not in_one and not in_few:
        return Outcome("ok", "Answers came in many pieces, as they were generated.", numbers)
    said = []
    if in_one:
        said.append(
            f"{in_one} of {count} answers came in one piece: their TTFT is the time of the whole answer, and they have "
            "no TPOT and no ITL."
        )
    if in_few:
        held = float(np.median((first / np.maximum(tokens, 1))[large]))
        said.append(
            f"In {in_few} of {count} answers the first piece held {held:.0%} of the tokens: their TTFT is the time at "
            "which all of these were there."
        )
    doubted = in_one + in_few > SHARE_DOUBT * count
    return Outcome("doubt" if doubted else "note", " ".join(said), numbers, _ADVICE)
