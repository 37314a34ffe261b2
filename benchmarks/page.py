"""Renders benchmarks/README.md from the results, so that no figure is typed by hand."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks import goals
from benchmarks.rounds import Results

_PART = {2: "a half", 4: "a quarter", 8: "an eighth"}


def render(instance: Results, load: Results) -> str:
    """The whole page."""
    sections = [_head(instance, load)]
    for name, section in (
        ("latency", _latency),
        ("cold_start", _cold_start),
        ("stages", _stages),
        ("engines", _engines),
        ("accuracy", _accuracy),
    ):
        if name in instance and "skipped" not in instance[name]:
            sections.append(section(instance))
    return "\n".join(sections)


def machine_table(found: Results) -> str:
    """What the figures were taken on."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in found["machine"].items())
    return f"| machine | |\n|---|---|\n{rows}"


def _head(instance: Results, load: Results) -> str:
    dates = ", ".join(f"{name} {one['date']}" for name, one in (("instance", instance), ("load", load)) if one)
    return f"""# Benchmarks

Rendered from `results/` ({dates}). Each figure stands beside a limit measured in the same run, in interleaved rounds; the spread is
that of the rounds. Absolute figures are this machine's, ratios are the point.

{machine_table(instance or load)}

## Goals

More: [against other stacks, a larger network, storing](stacks.md); [overload, probes, memory](overload.md).
**Limit** is what the figure could be at best (for a ratio to another stack: the same worker code, `serving/work.py`, called from one
thread per usable CPU without server and sockets, over that stack). **Margin** is how far the median is on the good side.

{goals.table(instance, load)}

To take them again, on a machine that does nothing else (five minutes, then half an hour; the same command goes on where it was cut off):

```console
$ make bench                                  # all, and the pages
$ make bench BENCH="stacks yolov8n"           # some; python -m benchmarks --help lists them
$ .venv/bin/python -m benchmarks --quick      # that they run: minutes, nothing is written
```
"""


def _latency(found: Results) -> str:
    data = found["latency"]
    ratios = [one["p50_ms"] / one["in_process_ms"] for one in data["rounds"]]
    rows = _rows(
        (
            one["in_process_ms"],
            one["p50_ms"],
            one["p99_ms"],
            one["p50_ms"] / one["in_process_ms"],
            one["send_lag_max_ms"],
        )
        for one in data["rounds"]
    )
    return f"""## Latency at {data["rate_rps"]} requests a second

**p50 / in-process time of one picture: {median(ratios):.2f}** (median of {len(ratios)} rounds, {_spread(ratios)}; goal at most 1.2).
Open loop, one request every {1000 / data["rate_rps"]:.0f} ms whatever the answers do; latency counts from when a request was due.

| in process, ms | p50, ms | p99, ms | ratio | latest send, ms |
|---|---|---|---|---|
{rows}
"""


def _cold_start(found: Results) -> str:
    data = found["cold_start"]
    split = "\n".join(f"| {name} | {seconds * 1000:.0f} |" for name, seconds in data["split"].items())
    first, ready, rss = data["first_answer_s"], data["ready_s"], data["rss_mb"]
    return f"""## Cold start and memory

**Process start to first good answer: {median(first):.2f} s** (median of {len(first)}, {_spread(first)}; goal 0.60). Ready after
{median(ready):.2f} s. **Resident memory then: {median(rss):.0f} MB** (goal at most 200). File cache warm, byte code compiled,
in an environment with the instance's own packages and no extra.

The parts, run one after the other (an instance loads the model beside its web imports, so they overlap there):

| part | ms |
|---|---|
{split}
"""


def _stages(found: Results) -> str:
    data = found["stages"]
    rows = "\n".join(f"| {name} | {cost:.0f} |" for name, cost in data["median_us"].items())
    reduced = found.get("reduced_decode", {})
    note = (
        f"\nA {reduced['picture']} JPEG ({reduced['input_widths']} times the input's width) decodes in {reduced['full_ms']} ms in full and in "
        f"{reduced['reduced_ms']} ms reduced to {_PART[reduced['reduced_by']]} of its sides by DCT scaling.\n"
        if "reduced_by" in reduced
        else ""
    )
    return f"""## Cost by stage

Median over {data["pictures"]} pictures, one core, {data["engine"]}.

| stage | µs |
|---|---|
{rows}
{note}"""


def _engines(found: Results) -> str:
    data = found["engines"]
    per_s, load_s = data["pictures_per_s"], data["load_s"]
    rows = "\n".join(
        f"| {name} | {median(per_s[name]):.1f} | {_spread(per_s[name])} | {median(load_s[name]):.2f} |"
        for name in per_s
    )
    best = max(per_s, key=lambda name: median(per_s[name]))
    return f"""## Engines

The whole in-process job on {data["threads"]} threads. The faster one here is **{best}**; `auto` takes OpenVINO only where the CPU
computes in BF16 (AVX512-BF16 or AMX), which this one {"does" if "no BF16" not in found["machine"]["CPU"] else "does not"}.

| engine | pictures/s | spread | load, s |
|---|---|---|---|
{rows}
"""


def _accuracy(found: Results) -> str:
    data = found["accuracy"]
    rows = "\n".join(_accuracy_row(one) for one in data["models"])
    decode = "\n".join(
        f"| {one['model']} | {one['reduced_pictures']} | {one['reduced_ap']:.4f} | {one['full_ap']:.4f} "
        f"| {_signed(one['reduced_ap'] - one['full_ap'], 4)} |"
        for one in data["decode"]
    )
    few = "" if data["used"] == data["pictures"] else f" ({data['used']} used)"
    return f"""## Accuracy

coco-val-dev has {data["pictures"]} pictures{few}, so a difference of a few thousandths is noise. AP is COCO's (IoU 0.50 to 0.95; confidence
from 0.01, NMS at IoU 0.5, at most 100 detections), by `tidesight.training.evaluate` with ONNX Runtime; "given" is what came with the file.

| model | input | head | AP given | AP here | difference | AP50 here |
|---|---|---|---|---|---|---|
{rows}
{_unlabelled(data)}
Reduced (DCT) decode against a decode in full, on the same pictures:

| model | pictures reduced | AP, reduced | AP, in full | difference |
|---|---|---|---|---|
{decode}
"""


def _accuracy_row(one: Results) -> str:
    given = one["given_ap"]
    cells = ("-", "-") if given is None else (f"{given:.3f}", _signed(one["ap"] - given, 3))
    return f"| {one['model']} | {one['input']} | {one['head']} | {cells[0]} | {one['ap']:.3f} | {cells[1]} | {one['ap50']:.3f} |"


def _unlabelled(data: Results) -> str:
    """What is said of models that have no labelled pictures, find nothing or are refused."""
    lines = []
    if other := data.get("other_classes"):
        seen = ", ".join(f"{label} {score:.2f}" for label, score in other["detections"])
        lines.append(f"{other['model']} (other classes, no labelled pictures) finds on {other['picture']}: {seen}.")
    if broken := data.get("broken"):
        lines.append(
            f"{broken['model']} finds {broken['detections']} objects in {broken['pictures']} pictures; 0 is right, its scores broke."
        )
    if data["refused"]:
        lines.append(f"Refused, as their heads are not supported: {', '.join(data['refused'])}.")
    if data["missing"]:
        lines.append(f"Not in the assets: {', '.join(data['missing'])}.")
    return "".join(f"\n{line}\n" for line in lines)


def _signed(value: float, digits: int) -> str:
    """With its sign; what rounds to nothing has none."""
    return f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def _rows(rows: "Any") -> str:
    return "\n".join("| " + " | ".join(f"{value:.2f}" for value in row) + " |" for row in rows)


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
