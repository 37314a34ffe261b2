"""What an experiment runs, in which order, against what; and that every shipped scenario can be."""

from collections import Counter
from pathlib import Path

import pytest

from tidesight.commands.bench_arms import Asked, arms
from tidesight.commands.demo_experiments import studies
from tidesight.errors import ConfigError
from tidesight.experiments.noise import task_ms
from tidesight.experiments.plan import Arm, Experiment, variants_of
from tidesight.experiments.shipped import FOLDER, names, scenario, shows
from tidesight.platforms.registry import ALIASES
from tidesight.workload.arrivals import Constant
from tidesight.workload.scenario import Scenario, parse_scenario, read_scenario
from tidesight.workload.trace import Replay
from tidesight.workload.variants import InstanceSize, Variant

PLAIN = Scenario("plain", Constant(5.0), 10.0, seeds=(7, 8), platforms=("gke", "cloud-run"))
ROOT = Path(__file__).parents[3]
NO_ASSETS = Path("there-are-none")


def experiment(count: int, repeats: int) -> Experiment:
    return Experiment("e", PLAIN, tuple(Arm(f"arm{number}") for number in range(count)), repeats)


@pytest.mark.parametrize(("count", "repeats"), [(1, 1), (2, 3), (3, 3), (3, 7)])
def test_arms_take_turns_and_none_is_always_first(count: int, repeats: int) -> None:
    turns = list(experiment(count, repeats).turns())
    assert Counter((turn.arm.name, turn.repeat) for turn in turns) == {
        (f"arm{arm}", repeat + 1): 1 for arm in range(count) for repeat in range(repeats)
    }
    assert [turn.repeat for turn in turns] == [repeat + 1 for repeat in range(repeats) for _ in range(count)]
    firsts = Counter(turn.arm.name for turn in turns[::count])
    assert max(firsts.values()) - min(firsts.values()) <= 1 and len(firsts) == min(count, repeats)
    assert len({turn.folder for turn in turns}) == count * repeats


def test_all_arms_of_a_repeat_get_the_same_arrivals_and_repeats_differ() -> None:
    turns = list(experiment(2, 4).turns())
    assert [turn.seed for turn in turns] == [7, 7, 8, 8, 9, 9, 10, 10]


@pytest.mark.parametrize(
    ("compared", "repeats", "told"),
    [((), 3, "--platform or --url"), ((Arm("a"),), 0, "--repeats"), ((Arm("a"), Arm("b"), Arm("a")), 1, "a is named")],
)
def test_what_cannot_be_run(compared: tuple[Arm, ...], repeats: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Experiment("e", PLAIN, compared, repeats)


def test_variants_go_by_what_a_platform_stands_for() -> None:
    cold, any_, gke = Variant("cold", platforms=("app-engine",)), Variant("any"), Variant("warm", platforms=("gke",))
    made = Scenario("s", Constant(1.0), 1.0, variants=(cold, any_, gke))
    assert variants_of(made, "app-engine-standard", ALIASES) == (cold, any_)
    assert variants_of(made, "gke", ALIASES) == (any_, gke)
    assert variants_of(PLAIN, "gke", ALIASES) == (None,)


def arguments(arm: Arm) -> dict[str, list[str]]:
    words, found = list(arm.arguments), dict[str, list[str]]()
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag = word
            found.setdefault(flag, [])
        else:
            found[flag].append(word)
    return found


def test_a_user_is_over_a_variant_and_that_over_a_scenario() -> None:
    made = Scenario(
        "s", Constant(1.0), 1.0, platforms=("app-engine",), instance=InstanceSize("0.25", "256Mi"), fork=False,
        platform={"app-engine-standard": {"max_instances": 5, "queue_s": 3, "min_instances": 1}},
        variants=(Variant("few", set={"max_instances": 2, "queue_s": 4}, delays=True), Variant("many", fork=True)),
    )  # fmt: skip
    few, many = arms(made, Asked(sets=["app-engine.queue_s=7"], cpu="0.5"))
    assert (few.name, many.name) == ("app-engine-few", "app-engine-many")
    assert (few.ready, few.platform["max"], many.platform["max"]) == (1, 2, 5)
    assert few.platform["set"] == {"min_instances": "1", "max_instances": "2", "queue_s": "7.0"}
    assert few.platform["instance"] == {"cpu": 0.5, "memory_bytes": 256 * 2**20}
    assert (few.platform["delays"], few.platform["fork"]) == (True, False)
    assert (many.platform["delays"], many.platform["fork"]) == (False, True)
    assert arguments(few) == {
        "--platform": ["app-engine"], "--set": ["max_instances=2", "queue_s=7", "min_instances=1"], "--cpu": ["0.5"],
        "--memory": ["256Mi"], "--delays": [], "--no-fork": [],
    }  # fmt: skip


def test_urls_stand_beside_platforms_and_alone_for_themselves() -> None:
    urls = ["flask=http://127.0.0.1:8000", "fast=http://h/p?a=b"]
    assert [(arm.name, arm.url) for arm in arms(PLAIN, Asked(urls=urls))] == [
        ("flask", "http://127.0.0.1:8000"),
        ("fast", "http://h/p?a=b"),
    ]
    assert [arm.name for arm in arms(PLAIN, Asked(("gke",), urls[:1]))] == ["gke", "flask"]
    assert [arm.name for arm in arms(PLAIN, Asked())] == ["gke", "cloud-run"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (lambda: Asked(("gkf",)), "did you mean gke"),
        (lambda: Asked(urls=["http://127.0.0.1"]), "expected NAME=URL"),
        (lambda: Asked(urls=["a/b=http://127.0.0.1"]), "expected NAME=URL"),
        (lambda: Asked(sets=["max_instances=3"]), r"PLATFORM\.KEY=VALUE"),
        (lambda: Asked(sets=["app-engine.max_instances=3"]), "not among the platforms"),
        (lambda: Asked(sets=["gke.max_instance=3"]), "did you mean max_instances"),
        (lambda: Asked(cpu="half"), "cpu: expected a number"),
    ],
)
def test_what_cannot_be_compared(asked: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        arms(PLAIN, asked())  # type: ignore[operator]


@pytest.mark.parametrize("name", [name for name in names() if name != "trace-twitter"])
def test_a_shipped_scenario_can_be_run_and_says_what_it_shows(name: str) -> None:
    made = scenario(name, NO_ASSETS)
    assert made.name == name and len(made.shows) > 80 and "Scaled to a machine of 2 CPUs" in made.note
    assert made.instance is not None and float(made.instance.cpu) <= 0.5
    assert shows(name) == made.shows
    compared = arms(made, Asked())
    assert len(compared) >= 2 and all(arm.platform["max"] for arm in compared)
    # What a scenario says of a platform must be of one that it is run against.
    assert {ALIASES.get(one, one) for one in made.platform} <= {ALIASES.get(one, one) for one in made.platforms}
    Experiment("e", made, compared)


def test_all_scenarios_are_there_and_in_the_documented_place() -> None:
    assert names() == [
        "cameras-come-and-go", "diurnal", "overload", "reference-1", "reference-2", "scale-to-zero", "spike-10x", "step", "trace-twitter",
    ]  # fmt: skip
    assert (ROOT / "benchmarks/scenarios").resolve() == FOLDER.resolve()


def test_a_scenario_of_a_trace_needs_the_assets_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TIDESIGHT_ASSETS"):
        scenario("trace-twitter", tmp_path)
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces/twitter-2021-08-per-minute.csv").write_text("t_s,requests\n0,3000\n60,6000\n86400,3000\n")
    made = scenario("trace-twitter", tmp_path)
    assert isinstance(made.load, Replay)
    assert made.load.curve(made.duration_s).points[0] == (0.0, 10.0)


@pytest.mark.parametrize(("name", "told"), [("refrence-1", "did you mean reference-1"), ("zzz", "there are: cameras")])
def test_an_unknown_scenario(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        scenario(name, NO_ASSETS)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"variants": [{"name": "a b"}]}, "letters, digits and dashes"),
        ({"variants": [{}]}, "variants: .*name"),
        ({"instance": {"cpu": "1"}}, "instance: .*memory"),
        ({"platform": {"gke": 3}}, "platform: .*object"),
        ({"tail_s": -1}, "tail_s"),
    ],
)
def test_what_a_scenario_cannot_say(more: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_scenario({"name": "s", "duration_s": 1.0, "load": {"users": 1}, **more}, Path())


def test_a_scenario_of_ones_own_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nduration_s = 2.0\n[load]\nusers = 3\n')
    assert scenario(str(file), NO_ASSETS) == read_scenario(file)


def test_calibration_measures_something() -> None:
    assert 0.1 < task_ms() < 10_000


def test_the_demo_has_both_studies_and_is_short() -> None:
    first, second = studies(NO_ASSETS)
    assert [arm.name for arm in arms(first, Asked())] == ["gke-warm", "cloud-run-cold"]
    one, unlimited = arms(second, Asked())
    assert (one.platform["max"], unlimited.platform["max"]) == (1, 6)
    assert "queue_s" not in one.platform["set"]  # 10 s: the platform's own
    assert all(made.note.startswith("In small: ") for made in (first, second))
    assert 2 * first.duration_s + 2 * second.duration_s + second.timeout_s <= 75  # seconds, without starts and ends
