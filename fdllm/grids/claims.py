"""What measured rows say of the claims of Fast-dLLM, in sentences whose every figure is computed.

Source of the claims: Wu et al. 2025, Fast-dLLM, arXiv:2505.22618.
"""

from collections.abc import Callable
from typing import Any

from fdllm.grids.plots import groups_of

Row = dict[str, Any]
Reports = dict[str, dict[str, Any]]
POINTS = 0.02
"""The paper: accuracy within 1 to 2 points."""


def points(value: float) -> str:
    """Write a share as points."""
    return f"{100 * value:+.1f}"


def verdict(row: Row) -> str:
    """Say what the interval of a difference allows to say of 2 points."""
    low, high = row["accuracy_difference_interval"]
    found = f"{points(row['accuracy_difference'])} points ({points(low)} to {points(high)})"
    if low >= -POINTS:
        return f"{found}: no more than 2 points are lost"
    if high < -POINTS:
        return f"{found}: more than 2 points are lost"
    return f"{found}: whether more than 2 points are lost, {row['problems']} problems cannot tell"


def both_within_two_points(reports: Reports) -> str:
    """Cache and parallel decoding multiply, and accuracy stays within 1 to 2 points (Table 1)."""
    said = []
    for title, rows in groups_of(reports["paper-table-1"]["rows"]):
        cache, parallel, both = rows[1:]
        share = both["speedup"] / (cache["speedup"] * parallel["speedup"])
        said.append(
            f"- {title}: cache {cache['speedup']:.1f} x, parallel {parallel['speedup']:.1f} x, both "
            f"{both['speedup']:.1f} x, {share:.2f} of their product. Accuracy of both: {verdict(both)}."
        )
    return _claim("Do cache and parallel decoding multiply, at an accuracy within 2 points?", said)


def dual_pays(reports: Reports) -> str:
    """The dual cache is faster than the prefix cache where responses are long (Tables 3 and 4)."""
    said = []
    for title, (_, none, prefix, dual) in groups_of(reports["paper-table-3-4"]["rows"]):
        said.append(
            f"- {title}: parallel {none['speedup']:.1f} x, with prefix {prefix['speedup']:.1f} x, with dual "
            f"{dual['speedup']:.1f} x: dual is {dual['speedup'] / prefix['speedup']:.2f} times as fast as prefix. "
            f"Accuracy of dual: {verdict(dual)}."
        )
    return _claim("Does the dual cache pay?", said)


def few_shot(reports: Reports) -> str:
    """All together, on many problems."""
    said = [
        f"- {row['name']}: {row['speedup']:.1f} x tokens/s (samples {row['speedup_range'][0]:.1f} to "
        f"{row['speedup_range'][1]:.1f}), {rows[0]['nfe'] / row['nfe']:.1f} x fewer forwards, {verdict(row)}."
        for _, rows in groups_of(reports["few-shot"]["rows"])
        for row in rows[1:]
    ]
    return _claim("What is gained in all, 5 examples in front?", said)


def block_length(reports: Reports) -> str:
    """Blocks of 32 are a good compromise; accuracy falls with longer ones (Figure 4)."""
    rows = reports["paper-figure-4"]["rows"]
    said = []
    for name in dict.fromkeys(row["row"] for row in rows[1:]):
        own = [row for row in rows if row["row"] == name]
        best = max(own, key=lambda row: row["tokens_per_second"])
        worst = min(own, key=lambda row: row["accuracy"])
        said.append(
            f"- {name}: fastest with blocks of {_value(best)}, {best['speedup']:.1f} x; its accuracy against no cache "
            f"{verdict(best)}. Least accurate with {_value(worst)}: {verdict(worst)}."
        )
    return _claim("Which block length?", said)


def threshold_beats_fixed(reports: Reports) -> str:
    """A threshold gives more accuracy than a fixed number of tokens a step at the same speed (Figure 5)."""
    rows = reports["paper-figure-5"]["rows"]
    fixed, swept = ([row for row in rows if row["row"] == name] for name in ("tokens a step", "threshold"))
    said = []
    for row in fixed[1:]:
        as_fast = [other for other in swept if other["tokens_per_forward"] >= row["tokens_per_forward"]]
        text = f"- {_value(row)} tokens a step: {_trade(row)}; "
        if not as_fast:
            said.append(f"{text}no threshold tried commits as many.")
            continue
        # not the most accurate one, which would be chosen by the same answers
        best = min(as_fast, key=lambda other: other["tokens_per_forward"])
        said.append(f"{text}threshold {_value(best)}: {_trade(best)}, {_difference(best, row)}.")
    return _claim("Where does a threshold beat a fixed number of tokens a step?", said)


def factor(reports: Reports) -> str:
    """Factor 1 commits more a step than threshold 0.9, for a point or two (Figure 8, Table 11)."""
    rows = reports["factor"]["rows"]
    one, nine = _swept(rows, "factor", 1.0), _swept(rows, "threshold", 0.9)
    said = [f"- factor 1: {_trade(one)}; threshold 0.9: {_trade(nine)}; {_difference(one, nine)}."]
    return _claim("Factor or threshold?", said)


def beside_published(reports: Reports) -> str:
    """Equal settings in fdllm and in the published code; NFE as each side counts."""
    rows = {row["row"]: row for row in reports["published"]["rows"]}
    said = []
    for name, theirs in rows.items():
        owner, _, how = name.partition(", ")
        if owner != "published":
            continue
        ours = rows[f"fdllm, {how}"]
        said.append(
            f"- {how}: fdllm is {ours['tokens_per_second'] / theirs['tokens_per_second']:.2f} times as fast, "
            f"{ours['right']} and {theirs['right']} of {ours['problems']} right, {ours['nfe']:.1f} and "
            f"{theirs['nfe']:.1f} forwards a problem."
        )
    return _claim("How fast is fdllm beside the published code, on this small model?", said)


CLAIMS: tuple[Callable[[Reports], str], ...] = (
    few_shot,
    both_within_two_points,
    dual_pays,
    block_length,
    threshold_beats_fixed,
    factor,
    beside_published,
)


def _claim(question: str, said: list[str]) -> str:
    return "\n".join([f"**{question}**\n", *said, ""])


def _value(row: Row) -> str:
    return ", ".join(str(value) for value in row["sweep"].values())


def _swept(rows: list[Row], name: str, value: float) -> Row:
    (found,) = (row for row in rows if row["row"] == name and value in row["sweep"].values())
    return found


def _trade(row: Row) -> str:
    return f"{row['tokens_per_forward']:.2f} tokens a forward at {row['accuracy']:.1%}"


def _difference(one: Row, other: Row) -> str:
    """Say how far two rows are apart, and whether their intervals have anything in common."""
    (low, high), (less, more) = one["accuracy_interval"], other["accuracy_interval"]
    apart = "intervals apart" if low > more or less > high else "within their intervals"
    return f"{points(one['accuracy'] - other['accuracy'])} points, {apart}"
