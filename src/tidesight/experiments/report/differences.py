"""Ours beside the published, in words: how far apart, and which of the known causes the data of the runs bear out."""

from dataclasses import dataclass
from typing import Literal

from tidesight.experiments.report.causes import Beside, causes_of
from tidesight.experiments.report.comparing import Section, Subject
from tidesight.experiments.report.figures import NAMES
from tidesight.experiments.report.published import Figure, Study, published, study_of
from tidesight.experiments.report.words import Form, figure, said_of, seconds, share

Verdict = Literal["agrees", "differs", "unknown"]
_CLOSE = 0.10
_NOUGHT = 0.005
_TITLES = {
    "cold_s": "start-up latency, cold", "warm_s": "start-up latency, warm", "memory": "average memory utilisation",
    "profile": "CPU profile", "scaling": "scaling behaviour", "failure_share": "failure share",
}  # fmt: skip
_SAID = {"stable": "stable", "spikes": "in spikes", "scales": "scaling with the load", "static": "static"}


@dataclass(frozen=True)
class Difference:
    """One published figure held against ours.

    Attributes:
        subject: Whose.
        figure: Which.
        verdict: Whether ours agrees.
        text: Both, and how far apart.
        causes: Sentences for the known causes that apply, each with the numbers that say so.
    """

    subject: str
    figure: str
    verdict: Verdict
    text: str
    causes: tuple[str, ...] = ()


def differences(section: Section) -> list[Difference]:
    """All that can be compared in a scenario; nothing where no study has it."""
    study = study_of(section)
    if study is None:
        return []
    return [
        _difference(study, subject, one)
        for subject in section.subjects
        for one in published(study, subject).values()
    ]  # fmt: skip


def _difference(study: Study, subject: Subject, theirs: Figure) -> Difference:
    title = _TITLES.get(theirs.figure, theirs.figure)
    if theirs.value is None:
        verdict, text = _words(subject, theirs)
    else:
        verdict, text = _numbers(subject, theirs)
    causes = causes_of(Beside(study, subject, theirs)) if verdict == "differs" else ()
    return Difference(subject.label, title, verdict, text, causes)


def _words(subject: Subject, theirs: Figure) -> tuple[Verdict, str]:
    ours = said_of(subject, theirs.figure)
    if ours is None:
        return "unknown", f"published “{theirs.text}”; ours is unknown, as no instances were watched."
    word, reason = ours
    verdict: Verdict = "agrees" if word == theirs.word else "differs"
    return verdict, f"published “{theirs.text}”; ours is {_SAID[word]} ({reason})."


def _numbers(subject: Subject, theirs: Figure) -> tuple[Verdict, str]:
    assert theirs.value is not None and theirs.figure in NAMES
    ours = subject.spreads[theirs.figure]
    if ours is None:
        why = _why_unknown(subject, theirs)
        return "unknown", f"published {theirs.text}; {why}."
    form = _form(theirs.figure)
    told = f"published {theirs.text}; ours {form(ours.median)}"
    if ours.count > 1:
        least, most = form(ours.least), form(ours.most)
        told += (
            f" (all {ours.count} repeats)" if least == most else f" (median of {ours.count} repeats, {least} to {most})"
        )
    if _agrees(ours.median, theirs):
        within = "within that bound" if theirs.relation != "=" else "the same within 10 %" if theirs.value else "as low"
        return "agrees", f"{told}: {within}."
    if theirs.relation == "=" and ours.count > 1 and ours.least <= theirs.value <= ours.most:
        return "agrees", f"{told}: the published value lies within our repeats."
    return "differs", f"{told}: {_apart(ours.median, theirs.value, form(abs(ours.median - theirs.value)))}."


def _why_unknown(subject: Subject, theirs: Figure) -> str:
    if theirs.figure == "cold_s" and subject.median("cold_share") == 0:
        return "in ours an instance was always ready, so no caller met a cold start"
    if theirs.figure == "cold_s" and subject.median("cold_share"):
        return "in ours no caller who found no instance ready was answered"
    return "ours is unknown, as the runs do not record it"


def _agrees(ours: float, theirs: Figure) -> bool:
    assert theirs.value is not None
    if theirs.relation != "=":
        return ours > theirs.value if theirs.relation == ">" else ours < theirs.value
    return abs(ours - theirs.value) <= (_CLOSE * theirs.value or _NOUGHT)


def _apart(ours: float, theirs: float, by: str) -> str:
    higher = "higher" if ours > theirs else "lower"
    if ours <= 0 or theirs <= 0:
        return f"{higher} by {by}"
    ratio = max(ours, theirs) / min(ours, theirs)
    return f"{higher} by a factor of {figure(ratio)}" if ratio >= 1.5 else f"{higher} by {by}"


def _form(name: str) -> Form:
    return seconds if name.endswith("_s") else share if name.endswith("_share") else lambda value: f"{value:.2f}"
