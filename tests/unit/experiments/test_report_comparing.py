"""Which runs stand beside each other, how far repeats spread, and what is said of the difference to a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.experiments.recorded import SCENARIO, facts, platform, start, summary, write
from tidesight.experiments.report.comparing import Section, sections, spread
from tidesight.experiments.report.differences import Difference, differences
from tidesight.experiments.report.evidence import Evidence, read_evidence
from tidesight.experiments.report.figures import NAMES
from tidesight.experiments.report.markdown import markdown, reference_table
from tidesight.experiments.report.method import load_words, method, noise, warnings
from tidesight.experiments.report.published import studies
from tidesight.experiments.report.words import dollars, figure, over_repeats, seconds, share


def evidence(folder: Path, *runs: dict[str, Any], **how: Any) -> list[Evidence]:
    return [read_evidence(write(folder / f"run-{place}", run, **how)) for place, run in enumerate(runs)]


def labels(found: Sequence[Section]) -> list[list[str]]:
    return [[subject.label for subject in section.subjects] for section in found]


def test_repeats_are_one_subject_and_scenarios_are_sections(tmp_path: Path) -> None:
    step = {**SCENARIO, "name": "step"}
    runs = evidence(
        tmp_path, facts(repeat=2), facts(platform=platform("gke")), facts(repeat=1), facts(scenario=step),
        facts(scenario={**SCENARIO, "seeds": [7]}, repeat=3),
    )  # fmt: skip
    found = sections(runs)
    assert [section.name for section in found] == ["reference-1", "step"]
    assert labels(found) == [["Cloud Run", "GKE"], ["Cloud Run"]]
    assert [run.name for run in found[0].subjects[0].runs] == ["run-2", "run-0", "run-4"]


def test_the_same_name_for_another_load_is_another_section(tmp_path: Path) -> None:
    other = {**SCENARIO, "load": {"arrivals": "constant", "rate_rps": 2.0}}
    found = sections(evidence(tmp_path, facts(), facts(scenario=other)))
    assert [section.name for section in found] == ["reference-1", "reference-1 (2)"]


def test_labels_tell_apart_what_differs_and_nothing_else(tmp_path: Path) -> None:
    runs = evidence(
        tmp_path,
        facts(platform=platform("app-engine-standard", max=1)),
        facts(platform=platform("app-engine-standard", max=None)),
        facts(platform=platform("gke")),
        facts(platform=platform("gke", policy="kpa")),
        facts(platform=platform("cloud-run"), variant={"name": "cold"}),
        facts(platform=platform("cloud-run"), simulated=True),
        facts(platform=None, url="http://user:secret@host:81/x", driver="locust"),
        facts(platform=None, url="http://host:81/x", driver="jmeter"),
        facts(platform=None, url=None),
    )
    assert labels(sections(runs)) == [
        ["App Engine, at most 1", "App Engine, no limit", "GKE, p", "GKE, kpa", "Cloud Run, cold", "Cloud Run (simulated)",
         "host:81, by locust", "host:81, by jmeter", "unknown target"]
    ]  # fmt: skip


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    assert spread([None, None]) is None
    found = spread([3.0, None, 1.0, 2.0])
    assert found is not None
    assert (found.median, found.least, found.most, found.count) == (2.0, 1.0, 3.0, 3)
    assert over_repeats(found, seconds) == "2 s (1 s to 3 s)"
    assert over_repeats(spread([0.0412]), seconds) == "41.2 ms"
    assert over_repeats(spread([2.0, 2.0]), seconds) == "2 s"
    assert over_repeats(None, seconds) == "unknown"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (seconds(0.0004), "0.4 ms"), (seconds(0.9996), "1 s"), (seconds(61.25), "61.2 s"), (share(0), "0 %"),
        (share(0.16), "16 %"), (share(0.00004), "<0.01 %"), (share(0.99999), ">99.99 %"), (share(0.0012), "0.12 %"),
        (share(1.0), "100 %"), (figure(123_456), "123,456"), (figure(0.000012345), "0.0000123"), (dollars(0.0256), "0.0256 USD"),
    ],
)  # fmt: skip
def test_figures_in_words(said: str, text: str) -> None:
    assert said == text


def test_the_typical_repeat_is_the_one_in_the_middle(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, facts(repeat=place), slower=slower)
               for place, (name, slower) in enumerate((("slow", 9.0), ("middle", 2.0), ("fast", 0.5)))]  # fmt: skip
    (section,) = sections([read_evidence(folder) for folder in folders])
    assert section.subjects[0].typical.name == "middle"


def test_published_figures_are_those_of_the_studies() -> None:
    said = {(study.id, one.platform, one.figure, one.text, one.value, one.relation)
            for study in studies() for one in study.figure}  # fmt: skip
    assert said == {
        ("reference-1", "cloud-run", "cold_s", ">700ms (Cold Start)", 0.7, ">"),
        ("reference-1", "gke", "warm_s", "<50ms (Consistent)", 0.05, "<"),
        ("reference-1", "cloud-run", "memory", "0.56", 0.56, "="),
        ("reference-1", "gke", "memory", "0.48", 0.48, "="),
        ("reference-1", "cloud-run", "profile", "Reactive Spikes", None, "="),
        ("reference-1", "gke", "profile", "Stable Baseline", None, "="),
        ("reference-1", "cloud-run", "scaling", "Elastic/Reactive", None, "="),
        ("reference-1", "gke", "scaling", "Predictable/Static", None, "="),
        ("reference-2", "app-engine", "failure_share", "16% failure", 0.16, "="),
        ("reference-2", "app-engine", "failure_share", "0% failure", 0.0, "="),
    }
    assert {name for _, _, name, *_ in said} <= {*NAMES, "profile", "scaling"}
    assert all(one.where for study in studies() for one in study.figure)


def explained(
    folder: Path, run: dict[str, Any], said: dict[str, Any] | None = None, **how: Any
) -> dict[str, Difference]:
    folder.mkdir(exist_ok=True)
    (section,) = sections([read_evidence(write(folder / "run", run, said, **how))])
    return {one.figure: one for one in differences(section)}


def test_differences_are_said_with_numbers(tmp_path: Path) -> None:
    found = explained(tmp_path, facts())
    cold = found["start-up latency, cold"]
    assert (cold.verdict, cold.text) == ("agrees", "published >700ms (Cold Start); ours 2.1 s: within that bound.")
    memory = found["average memory utilisation"]
    assert (memory.verdict, memory.text) == ("differs", "published 0.56; ours 0.25: lower by a factor of 2.24.")
    assert memory.causes == (
        "Instance class: ours had 0.5 CPU and 512 MiB (the platform's own class: 1 vCPU, 1 GiB); the study states none. "
        "Our 128 MiB would be its 0.56 of 229 MiB.",
        "Image and runtime: the study's instance holds PyTorch; ours, ONNX Runtime 1.20, takes 128 MiB with its model.",
    )
    assert found["CPU profile"].verdict == found["scaling behaviour"].verdict == "agrees"


def test_a_cause_is_named_only_where_the_runs_bear_it_out(tmp_path: Path) -> None:
    gke = facts(platform=platform("gke", min=1))
    latency = "start-up latency, warm"
    calm = explained(tmp_path / "calm", gke)[latency]
    assert calm.text == "published <50ms (Consistent); ours 350 ms: higher by a factor of 7."
    told = " ".join(calm.causes)
    assert "Concurrency" not in told and "Noise" not in told and "Validity" not in told
    assert (
        "Cold-start share: 20 % of our requests were due while no instance was ready; the first of them waited 2.1 s."
        in told
    )
    assert "Load: ours was 1 requests/s, 0.1 times the study's 10." in told
    assert "of 10 requests 1 were refused with 429 or 503, 1 were given up by their callers." in told
    noisy = facts(platform=platform("gke", min=1), noise={"before_ms": 20.0, "after_ms": 40.0})
    crowded = " ".join(explained(tmp_path / "crowded", noisy, inside=5.0)[latency].causes)
    assert (
        "Concurrency: on average 5 requests were inside a ready instance of ours; the study's took 2 at a time."
        in crowded
    )
    assert "Noise: the same piece of work took 20 to 40 ms" in crowded
    assert "Validity: in doubt are 1 of 1 runs" in crowded


def test_a_forked_start_explains_a_fast_one(tmp_path: Path) -> None:
    warm = summary(starts=[start("forked")])
    found = explained(tmp_path, facts(), warm, slower=0.2)["start-up latency, cold"]
    assert found.text == "published >700ms (Cold Start); ours 420 ms: lower by a factor of 1.67."
    told = " ".join(found.causes)
    assert "1 of our 1 starts were forked from a loaded template" in told
    assert "ours were run without the platform's own part of a start, which its rules put at 1 s typically" in told


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    ready = summary(starts=[start(asked_s=-5.0, ready_s=-3.0)])
    always = explained(tmp_path / "always", facts(), ready)["start-up latency, cold"]
    assert (always.verdict, always.text) == (
        "unknown",
        "published >700ms (Cold Start); in ours an instance was always ready, so no caller met a cold start.",
    )
    unwatched = explained(tmp_path / "unwatched", facts(), {}, samples=False)
    assert {one.verdict for one in unwatched.values()} == {"unknown"}


def test_the_second_study_compares_one_instance_and_many(tmp_path: Path) -> None:
    users = {**SCENARIO, "name": "reference-2-small", "load": {"users": 20, "spawn_per_s": 2.0, "think_s": 0.0}}
    one, many = (platform("app-engine-standard", max=most, min=1) for most in (1, 4))
    limited = explained(tmp_path / "one", facts(scenario=users, platform=one))["failure share"]
    assert limited.text == "published 16% failure; ours 20 %: higher by 4 %."
    assert "Load: ours was 20 users, 0.02 times the study's 1000." in limited.causes
    unlimited = explained(tmp_path / "many", facts(scenario=users, platform=many))["failure share"]
    assert unlimited.text.startswith("published 0% failure; ours 20 %")


def test_other_scenarios_and_urls_are_held_against_no_study(tmp_path: Path) -> None:
    assert explained(tmp_path / "a", facts(scenario={**SCENARIO, "name": "reference-10"})) == {}
    assert explained(tmp_path / "b", facts(platform=None, url="http://h/")) == {}


def test_method_says_what_holds(tmp_path: Path) -> None:
    found = sections(evidence(tmp_path, facts(), facts(simulated=True, machine={})))
    told = " ".join(method(found))
    assert "Requests were sent by Tidesight's own generator." in told
    assert "within the objective of 500 ms" in told
    assert "virtual time" in told and "measured once" in told
    assert warnings(found) == ["1 of 2 runs are simulated."]
    assert noise(found[0].runs).startswith("The same piece of work took 20 to 20 ms")


def test_different_machines_are_warned_of(tmp_path: Path) -> None:
    found = sections(evidence(tmp_path, facts(), facts(machine={"cpu": "Difference Engine"}, versions={})))
    assert warnings(found) == [
        "Runs come from different machines: figures of one are not to be held against another's.",
        "Runs were made with different versions.",
    ]


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({}, "No load was recorded; fleets were only watched."),
        ({"arrivals": "poisson", "rate_rps": 10.0}, "Poisson arrivals, 10 requests a second, for 9 s."),
        ({"users": 5, "spawn_per_s": 2.0, "think_s": 0.0}, "5 users, 2 added a second, without a pause between requests for 9 s."),
        ({"arrivals": "trace", "trace_s": 60.0, "mean_rps": 3.0, "time_scale": 0.5, "rate_scale": 1.0},
         "Trace arrivals, a trace of 60 s, 3 requests a second in the mean, its time scaled by 0.5, for 9 s."),
    ],
)  # fmt: skip
def test_a_load_in_words(load: dict[str, Any], words: str) -> None:
    assert load_words({"load": load, "duration_s": 9.0}) == words


def test_markdown_keeps_to_its_cells(tmp_path: Path) -> None:
    strange = facts(platform=None, url="http://a|b/", scenario={**SCENARIO, "name": "x <b>"})
    (section,) = sections(evidence(tmp_path, strange))
    table = reference_table(section)
    assert table.splitlines()[0] == "|  | a\\|b |"
    assert "| Failure share | 20 %; and 30 % answered too late |" in table.splitlines()
    assert "<b>" not in markdown([section], ["folder: no run"])
    assert "- Not read: folder: no run" in markdown([section], ["folder: no run"])


def test_the_table_has_ours_beside_the_published(tmp_path: Path) -> None:
    (section,) = sections(evidence(tmp_path, facts(repeat=1), facts(repeat=2)))
    lines = reference_table(section).splitlines()
    assert lines[0] == "|  | Cloud Run | Cloud Run, published |"
    assert "| Average memory utilisation | 0.25; 128 MiB | 0.56 |" in lines
    assert "| Cost of 1000 good answers | 2 USD; prices of 2026-11-22 |  |" in lines
