"""The catalogue keeps Prometheus' conventions, and what is exposed can be parsed."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tidesight import telemetry
from tidesight.telemetry import CATALOGUE, Metric, Telemetry

# Labels whose values come from a closed set or from the instance itself, never from a caller.
FEW_VALUES = {"status", "stage", "reason", "outcome", "version", "model", "engine", "head", "input", "tuned"}
SCALED_UNITS = re.compile(r"_(ms|millis|milliseconds|us|minutes|kb|mb|kilobytes|percent)(_|$)")

by_name = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)


def exposed(instance: Telemetry) -> dict[str, float]:
    """Samples by name and labels, as a scraper reads them."""
    families = text_string_to_metric_families(instance.exposition().decode())
    return {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@by_name
def test_names(metric: Metric) -> None:
    assert re.fullmatch(r"tidesight_[a-z]+(_[a-z]+)*", metric.name)
    assert not SCALED_UNITS.search(metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_info") == metric.help.startswith("Always 1")
    assert metric.kind in {"counter", "gauge", "histogram"}


@by_name
def test_help_is_one_sentence(metric: Metric) -> None:
    assert re.fullmatch(r"[A-Z0-9].*[^.]\.", metric.help)


@by_name
def test_labels_have_few_values(metric: Metric) -> None:
    assert set(metric.labels) <= FEW_VALUES
    if not metric.name.endswith("_info"):
        assert len(metric.labels) <= 1


@by_name
def test_buckets_rise_from_a_millisecond(metric: Metric) -> None:
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")
        assert metric.buckets[0] == 0.001
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert len(metric.buckets) <= 20


def test_every_metric_of_the_module_is_in_the_catalogue() -> None:
    declared = [value for value in vars(telemetry).values() if isinstance(value, Metric)]
    assert sorted(m.name for m in declared) == sorted(m.name for m in CATALOGUE)
    assert len({m.name for m in CATALOGUE}) == len(CATALOGUE)


def test_the_exposition_parses_and_describes_all() -> None:
    families = {f.name: f for f in text_string_to_metric_families(Telemetry().exposition().decode())}
    for metric in CATALOGUE:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.help
    assert "process_cpu_seconds" in families
    assert "process_resident_memory_bytes" in families


def test_counters_count() -> None:
    instance = Telemetry()
    instance.count(telemetry.REQUESTS, "200")
    instance.count(telemetry.REQUESTS, "200")
    instance.count(telemetry.REQUESTS, "429")
    instance.count(telemetry.DETECTIONS, amount=5)
    found = exposed(instance)
    assert found["tidesight_requests_total,status=200"] == 2
    assert found["tidesight_requests_total,status=429"] == 1
    assert found["tidesight_detections_total"] == 5


def test_gauges_are_set_and_moved() -> None:
    instance = Telemetry()
    instance.set(telemetry.QUEUE_LENGTH, 4)
    instance.set(telemetry.QUEUE_LENGTH, 2)
    instance.count(telemetry.IN_FLIGHT)
    instance.count(telemetry.IN_FLIGHT, amount=-1)
    instance.set(telemetry.MODEL_INFO, 1, "nano", "fake", "yolox", "416x416", "no")
    found = exposed(instance)
    assert found["tidesight_queue_length"] == 2
    assert found["tidesight_requests_in_flight"] == 0
    assert found["tidesight_model_info,engine=fake,head=yolox,input=416x416,model=nano,tuned=no"] == 1


def test_histograms_observe() -> None:
    instance = Telemetry()
    for value_s in (0.0005, 0.03, 60.0):
        instance.observe(telemetry.STAGE_SECONDS, value_s, "decode")
    found = exposed(instance)
    name = "tidesight_stage_duration_seconds"
    assert found[f"{name}_bucket,le=0.001,stage=decode"] == 1
    assert found[f"{name}_bucket,le=0.035,stage=decode"] == 2
    assert found[f"{name}_bucket,le=10.0,stage=decode"] == 2
    assert found[f"{name}_count,stage=decode"] == 3
    assert found[f"{name}_sum,stage=decode"] == pytest.approx(60.0305)


def test_two_instances_do_not_share() -> None:
    one, other = Telemetry(), Telemetry()
    one.count(telemetry.DETECTIONS)
    assert exposed(other)["tidesight_detections_total"] == 0


def test_a_label_with_quotes_survives() -> None:
    instance = Telemetry()
    instance.set(telemetry.BUILD_INFO, 1, 'a"b\\c\nd')
    families = text_string_to_metric_families(instance.exposition().decode())
    (family,) = (f for f in families if f.name == "tidesight_build_info")
    assert family.samples[0].labels == {"version": 'a"b\\c\nd'}


def test_labels_must_be_those_declared() -> None:
    with pytest.raises(ValueError, match="label"):
        Telemetry().count(telemetry.REQUESTS, "200", "more")
