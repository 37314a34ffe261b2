"""Keys of results: their shape, their spread, and what they refuse."""

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.errors import ConfigError, InvalidOption
from tidesight.results.keys import MAX_PREFIX_BYTES, bucket_and_prefix, check_key, result_key

AT = datetime(2026, 3, 9, 7, 5, 4, 56_789, tzinfo=UTC)
REQUEST_IDS = st.text(ascii_letters + digits + "._-", min_size=1, max_size=128)


def test_a_key_has_hash_day_time_and_id() -> None:
    # `printf req-1 | sha256sum` begins with 94.
    assert result_key("req-1", AT) == "94/2026/03/09/070504.056Z-req-1"


def test_the_time_is_written_in_utc() -> None:
    in_kolkata = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert result_key("req-1", in_kolkata) == result_key("req-1", AT)


def test_a_time_just_before_midnight_is_cut_and_stays_in_its_day() -> None:
    last = datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert result_key("a", last).split("/", 1)[1] == "2026/12/31/235959.999Z-a"


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        result_key("a", datetime(2026, 1, 1))


@pytest.mark.parametrize("request_id", ["", "a" * 129, "../a", "a/b", "a\n", "a b", "é", "a\\b", "a\0"])
def test_an_unsafe_request_id_is_refused(request_id: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        result_key(request_id, AT)
    assert refused.value.field == "id"


@given(REQUEST_IDS, st.datetimes(timezones=st.just(UTC)))
def test_every_key_is_safe_and_fits_file_systems_and_buckets(request_id: str, at: datetime) -> None:
    key = result_key(request_id, at)
    check_key(f"{key}.json")
    assert len(f"{key}.json".encode()) + MAX_PREFIX_BYTES <= 1024
    assert all(len(name) <= 255 for name in f"{key}.json".split("/"))


@given(st.lists(REQUEST_IDS, min_size=2, max_size=2, unique=True))
def test_different_ids_at_the_same_time_have_different_keys(request_ids: list[str]) -> None:
    assert result_key(request_ids[0], AT) != result_key(request_ids[1], AT)


def test_keys_sort_by_time_within_a_prefix() -> None:
    times = [AT + timedelta(milliseconds=step) for step in (0, 1, 999, 1_000, 60_000, 86_400_000)]
    keys = [result_key("same", at) for at in times]
    assert keys == sorted(keys)


def test_ids_counted_upwards_spread_over_the_prefixes() -> None:
    prefixes = Counter(result_key(f"req-{number:08d}", AT)[:2] for number in range(25_600))
    assert len(prefixes) == 256
    assert max(prefixes.values()) < 160  # 100 expected; 6 standard deviations


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", "a/..", "a\\b", "a\n", "a b", "ü", "~/a%2e"],
)
def test_an_unsafe_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="safe"):
        check_key(key)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://my-bucket", ("my-bucket", "")),
        ("s3://my-bucket/", ("my-bucket", "")),
        ("gs://my.bucket_1/a/b", ("my.bucket_1", "a/b/")),
        ("gs://my-bucket/a/b/", ("my-bucket", "a/b/")),
        ("gs://my-bucket/prüfung 1", ("my-bucket", "prüfung 1/")),
    ],
)
def test_a_url_is_split_into_bucket_and_prefix(url: str, expected: tuple[str, str]) -> None:
    assert bucket_and_prefix(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        "s3://ab",
        "s3://Upper-Case",
        "s3://my-bucket/a//b",
        "s3://my-bucket/../other",
        "s3://my-bucket/./a",
        "gs://my-bucket/a#1",
        "gs://my-bucket/a?b",
        "gs://my-bucket/*",
        "gs://my-bucket/a\nb",
        "gs://my-bucket/" + "ü" * (MAX_PREFIX_BYTES // 2 + 1),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        bucket_and_prefix(url)
    assert refused.value.field == "store"


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        bucket_and_prefix("s3://AKIAEXAMPLE:hunter2@my-bucket/prefix")
    assert "hunter2" not in refused.value.detail
