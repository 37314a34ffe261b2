"""Trace context as the W3C's recommendation has it: its examples, its test suite's cases, and nonsense."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from tidesight.serving.tracing import TraceContext, caller_s_trace, new_trace, parse_traceparent, parse_tracestate

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
EXAMPLE = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (EXAMPLE, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-02", False),  # other flags say nothing of sampling
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f" \t{EXAMPLE}\t ", True),
        # A later version: what it shares with 00 is read, what follows is not.
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-", True),
        (f"01-{TRACE}-{SPAN}-00-what-the-future-will-be-like", False),
        (f"fe-{TRACE}-{SPAN}-01-.Æ", True),
    ],
)
def test_what_is_understood(text: str, sampled: bool) -> None:
    assert parse_traceparent(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "00", "00---", "nonsense",
        f"ff-{TRACE}-{SPAN}-01",  # forbidden
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN.upper()}-01", f"0A-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-0A",
        f"{EXAMPLE}-", f"{EXAMPLE}-more", f"{EXAMPLE}.", f"{EXAMPLE}1",  # 00 has exactly 55 characters
        f"cc-{TRACE}-{SPAN}-01.what", f"cc-{TRACE}-{SPAN}-011",  # a later version goes on after a dash
        f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}0-{SPAN}-01", f"00-{TRACE}-{SPAN[1:]}-01", f"00-{TRACE}-{SPAN}-1", f"000-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01", f"00-{TRACE[:-1]}.-{SPAN}-01", f"..-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-.0",
        f"00_{TRACE}_{SPAN}_01", f"{EXAMPLE},{EXAMPLE}", f"{EXAMPLE}\n", f"\n{EXAMPLE}", f"00-{'²' * 31}1-{SPAN}-01",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_ignored(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or text.strip(" \t")[3:52] == f"{found.trace_id}-{found.span_id}"
    parse_tracestate([text])


def test_what_is_passed_on_is_version_00_with_the_sampled_flag_alone() -> None:
    for text, passed in ((EXAMPLE, EXAMPLE), (f"cc-{TRACE}-{SPAN}-fe-more", f"00-{TRACE}-{SPAN}-00")):
        found = parse_traceparent(text)
        assert found
        assert found.traceparent == passed


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([], ""),
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["foo=1 \t , \t bar=2", "", "baz=3"], "foo=1,bar=2,baz=3"),
        (["foo=1,,bar=2,"], "foo=1,bar=2"),
        (["fw529a3039@dt=FfAfr, tenant@vendor= a b "], "fw529a3039@dt=FfAfr,tenant@vendor= a b"),
        (["0a@b=1"], "0a@b=1"),
        (["foo"], ""), (["foo="], ""), (["=1"], ""), (["foo=1=2"], ""), (["FOO=1"], ""), (["foo @=1,bar=2"], ""),
        (["foo@=1"], ""), (["@foo=1"], ""), (["foo@@bar=1"], ""), (["0foo=1"], ""), (["foo=\x00"], ""), (["foo=ü"], ""),
        (["foo=1,foo=2"], ""),
        ([f"{'z' * 256}=1"], f"{'z' * 256}=1"), ([f"{'z' * 257}=1"], ""), ([f"{'t' * 241}@{'v' * 14}=1"], f"{'t' * 241}@{'v' * 14}=1"),
        ([f"{'t' * 242}@v=1"], ""), ([f"t@{'v' * 15}=1"], ""), ([f"a={'v' * 256}"], f"a={'v' * 256}"), ([f"a={'v' * 257}"], ""),
        ([",".join(f"a{n}=1" for n in range(32))], ",".join(f"a{n}=1" for n in range(32))),
        ([",".join(f"a{n}=1" for n in range(33))], ""),
    ],
)  # fmt: skip
def test_state_is_passed_on_as_it_is_or_not_at_all(lines: list[str], state: str) -> None:
    assert parse_tracestate(lines) == state


def headers(*lines: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode()) for name, value in lines])


def test_a_request_s_headers() -> None:
    state = ("tracestate", "rojo=1")
    assert caller_s_trace(headers(("traceparent", EXAMPLE))) == TraceContext(TRACE, SPAN, True)
    assert caller_s_trace(headers(("traceparent", EXAMPLE), state, ("tracestate", "congo=2"))) == TraceContext(
        TRACE, SPAN, True, "rojo=1,congo=2"
    )
    assert caller_s_trace(headers(("traceparent", EXAMPLE), ("tracestate", "foo"))) == TraceContext(TRACE, SPAN, True)
    for lines in ([], [state], [("traceparent", EXAMPLE)] * 2, [("traceparent", "nonsense"), state]):
        assert caller_s_trace(headers(*lines)) is None


def test_a_trace_of_its_own_is_valid_and_new_each_time() -> None:
    made = [new_trace() for _ in range(100)]
    assert len({trace.trace_id for trace in made}) == len({trace.span_id for trace in made}) == 100
    for trace in made:
        assert re.fullmatch("[0-9a-f]{32} [0-9a-f]{16}", f"{trace.trace_id} {trace.span_id}")
        assert parse_traceparent(trace.traceparent) == trace
        assert not trace.sampled
