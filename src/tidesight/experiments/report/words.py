"""Figures in words and units; unknown is a word of its own."""

from collections.abc import Callable

from tidesight.experiments.report.comparing import Spread, Subject
from tidesight.experiments.report.figures import STEADY_CV, Figures

UNKNOWN = "unknown"
Form = Callable[[float], str]


def seconds(value: float) -> str:
    """A time to three figures, in the unit that suits it."""
    if value < 0.9995:
        return f"{figure(1e3 * value)} ms"
    return f"{figure(value)} s"


def share(value: float) -> str:
    """A part of a whole in per cent; what is nearly nothing or nearly all is not called that."""
    percent = 100 * value
    if 0 < percent < 0.01:
        return "<0.01 %"
    if 99.99 < percent < 100:
        return ">99.99 %"
    return f"{percent:.2f} %" if 0 < percent < 1 else f"{percent:.3g} %"


def figure(value: float) -> str:
    """Three significant figures, never in powers of ten."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{float(f'{value:.3g}'):.10f}".rstrip("0").rstrip(".")


def mebibytes(value: float) -> str:
    """Of memory."""
    return f"{figure(value / 2**20)} MiB"


def dollars(value: float) -> str:
    """Of cost."""
    return f"{figure(value)} USD"


def over_repeats(found: Spread | None, form: Form) -> str:
    """The median, and the least and the most where there are repeats."""
    if found is None:
        return UNKNOWN
    if found.count == 1:
        return form(found.median)
    middle, least, most = form(found.median), form(found.least), form(found.most)
    return middle if least == most else f"{middle} ({least} to {most})"


def profile(found: Figures) -> tuple[str, str] | None:
    """Whether the CPU was "stable" or in "spikes", and what that is said by; None where unknown."""
    if found.cpu_peak is None or found.cpu_cv is None:
        return None
    word = "stable" if found.cpu_cv < STEADY_CV else "spikes"
    spin = ", the highest while instances start" if (found.cpu_spin or 0) > 0.5 and word == "spikes" else ""
    return word, f"peak {found.cpu_peak:.2f}, variation {found.cpu_cv:.0%}{spin}"


def scaling(found: Figures) -> tuple[str, str] | None:
    """Whether the fleet "scales" or is "static" under this load, and how; None where unknown."""
    if found.ready_least is None or found.ready_most is None:
        return None
    least, most = int(found.ready_least), int(found.ready_most)
    word = "static" if least == most else "scales"
    counts = f"{most} ready throughout" if least == most else f"{least} to {most} ready"
    if found.ups is None:
        return word, f"{counts}; decisions unknown"
    told = f"{counts}; {int(found.ups)} up, {int(found.downs or 0)} down"
    return word, f"{told}, first up after {seconds(found.first_up_s)}" if found.first_up_s is not None else told


def agreed(said: list[tuple[str, str] | None]) -> tuple[str, str] | None:
    """One saying for all repeats: the commonest word with its first reason, and that they differ where they do."""
    known = [one for one in said if one is not None]
    if not known:
        return None
    words = [word for word, _ in known]
    common = max(sorted(set(words)), key=words.count)
    reason = next(reason for word, reason in known if word == common)
    if words.count(common) == len(words):
        return common, reason
    return common, f"{reason}; so in {words.count(common)} of {len(words)} repeats"


def said_of(subject: Subject, name: str) -> tuple[str, str] | None:
    """The `profile` or the `scaling` of a subject over its repeats."""
    say = {"profile": profile, "scaling": scaling}[name]
    return agreed([say(found) for found in subject.figures])
