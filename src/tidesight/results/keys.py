"""The names results get: object keys, and the bucket and prefix they go under.

A key is `{hash}/{YYYY}/{MM}/{DD}/{HHMMSS.mmm}Z-{request id}`. The hash goes first because object stores split
a bucket into ranges of names: names that begin with the time all fall into one range, which then takes every
write (https://cloud.google.com/storage/docs/request-rate, "naming convention"). Two hexadecimal digits make
256 ranges, and few enough prefixes to list one day.
"""

import re
from datetime import UTC, datetime
from hashlib import sha256

from tidesight.errors import ConfigError, InvalidOption

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# Legal in names, but tools read them as wildcards, versions or queries (GCS, "object name considerations").
_AMBIGUOUS_IN_PREFIX = re.compile(r"[\x00-\x1f\x7f-\x9f#?*\[\]\\]")

HASH_DIGITS = 2
# Both GCS and S3 allow 1024 bytes for a whole name; a key of ours needs at most 160.
MAX_PREFIX_BYTES = 800


def result_key(request_id: str, at: datetime) -> str:
    """The key of a request's result, without a suffix such as `.json`.

    The same id and time always give the same key, so a retry overwrites instead of duplicating.

    Args:
        request_id: 1 to 128 characters of `A-Za-z0-9._-`.
        at: When the request was made; aware. It is written in UTC and cut (not rounded) to the millisecond.

    Raises:
        InvalidOption: The request id has other characters or another length.
        ValueError: The time has no time zone.
    """
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidOption("id must be 1 to 128 letters, digits, '.', '_' or '-'", field="id")
    if at.utcoffset() is None:
        raise ValueError("result_key needs a time with a time zone")
    utc = at.astimezone(UTC)
    digits = sha256(request_id.encode()).hexdigest()[:HASH_DIGITS]
    day = f"{utc.year:04d}/{utc.month:02d}/{utc.day:02d}"
    return f"{digits}/{day}/{utc:%H%M%S}.{utc.microsecond // 1000:03d}Z-{request_id}"


def check_key(key: str) -> None:
    """Refuse a key that could leave its folder or that tools would read differently.

    Raises:
        ValueError: The key is not `name/name/...` of `A-Za-z0-9._-`, or a name is `.` or `..`.
    """
    if not _KEY.fullmatch(key) or {".", ".."} & set(key.split("/")):
        raise ValueError(f"not a safe object key: {key!r}")


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Split `scheme://bucket/some/prefix/` into the bucket and the prefix, `""` or ending in a slash.

    Raises:
        ConfigError: The bucket's name or the prefix cannot be used.
    """
    bucket, _, path = url.partition("://")[2].partition("/")
    if "@" in bucket:
        # Not repeated in the message: it may be a secret.
        raise ConfigError("--store: no credentials in the URL; name only the bucket", field="store")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(
            f"--store {url!r}: {bucket!r} is not a bucket's name (3 or more of a-z 0-9 . _ -)", field="store"
        )
    prefix = path.strip("/")
    if not prefix:
        return bucket, ""
    if _AMBIGUOUS_IN_PREFIX.search(prefix) or {"", ".", ".."} & set(prefix.split("/")):
        raise ConfigError(
            f"--store {url!r}: the prefix must be names parted by single slashes, "
            "without '.', '..', # ? * [ ] \\ and control characters",
            field="store",
        )
    if len(prefix.encode()) > MAX_PREFIX_BYTES:
        raise ConfigError(f"--store: the prefix is longer than {MAX_PREFIX_BYTES} bytes", field="store")
    return bucket, f"{prefix}/"
