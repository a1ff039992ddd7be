"""Two sides on one task: equal tokens first, then times in turn and the median of the ratios of neighbours."""

import os
import statistics
from dataclasses import asdict, dataclass

from fdllm.bench.published.peer import Peer, Result, Task


class UnequalTokensError(AssertionError):
    """The two sides decoded different tokens, so their times may not be compared."""


@dataclass(frozen=True)
class Comparison:
    """Times of equal work.

    Attributes:
        speed_up: median over the pairs of published seconds / our seconds.
        speed_ups: each pair's.
        cpu_speed_up: the same of the processes' CPU times, which other load on the machine disturbs less.
        published_seconds: median time of the published code.
        our_seconds: median time of fdllm.
        published_nfe: forwards the published code made.
        our_nfe: forwards fdllm made.
        visible_tokens: tokens that were compared.
        load_average: of the machine over the last minute, after the last pair.

    """

    speed_up: float
    speed_ups: list[float]
    cpu_speed_up: float
    published_seconds: float
    our_seconds: float
    published_nfe: int
    our_nfe: int
    visible_tokens: int
    load_average: float

    def to_dict(self) -> dict[str, object]:
        """Everything as plain values, for a report."""
        return asdict(self)


def visible(tokens: list[int], eos_id: int | None) -> list[int]:
    """Cut a response before its first eos."""
    return tokens if eos_id is None or eos_id not in tokens else tokens[: tokens.index(eos_id)]


def check_equal(published: list[int], ours: list[int]) -> None:
    """Hold both sides to the same tokens.

    Raises:
        UnequalTokensError: says where they differ.

    """
    if published == ours:
        return
    apart = [i for i, (a, b) in enumerate(zip(published, ours, strict=False)) if a != b]
    places = ", ".join(f"{i}: {published[i]} and {ours[i]}" for i in apart[:5])
    raise UnequalTokensError(
        f"the tokens differ at {len(apart)} of {len(published)} published and {len(ours)} of our visible slots"
        f"{f' (slot: published and ours; {places})' if apart else ''}; no speed-up is given, try another --seed"
    )


def compare(published: Peer, ours: Peer, task: Task, pairs: int, eos_id: int | None = None) -> Comparison:
    """Decode a task on both sides in turn; the first decode of each is not timed.

    Raises:
        UnequalTokensError: on any decode the visible tokens of the two sides differ.

    """
    times = []
    for pair in range(pairs + 1):
        theirs, mine = published.decode(task), ours.decode(task)
        seen = visible(theirs.tokens, eos_id)
        check_equal(seen, visible(mine.tokens, eos_id))
        if pair:
            times.append((theirs, mine))
    return _summary(times, len(seen))


def _summary(times: list[tuple[Result, Result]], seen: int) -> Comparison:
    ratios = [theirs.seconds / mine.seconds for theirs, mine in times]
    return Comparison(
        speed_up=statistics.median(ratios),
        speed_ups=[round(ratio, 4) for ratio in ratios],
        cpu_speed_up=statistics.median(theirs.cpu_seconds / mine.cpu_seconds for theirs, mine in times),
        published_seconds=statistics.median(theirs.seconds for theirs, _ in times),
        our_seconds=statistics.median(mine.seconds for _, mine in times),
        published_nfe=times[-1][0].nfe,
        our_nfe=times[-1][1].nfe,
        visible_tokens=seen,
        load_average=os.getloadavg()[0],
    )
