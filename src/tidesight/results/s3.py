"""An S3 bucket (or one of a compatible server) as a store, through `obstore`.

The library reads the standard variables itself: AWS_ACCESS_KEY_ID and so on, web identity and container
roles, AWS_REGION, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP.
"""

from datetime import timedelta

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from tidesight.results.bucket import Refusal
from tidesight.results.keys import bucket_and_prefix

_MAX_RETRIES = 4
_CONNECT_TIMEOUT_S = 3.0

# The library has one class for these; only their text tells them apart.
_EXPIRED = "<Code>ExpiredToken</Code>"  # S3 says so with 400
_REMEDIES = {
    "redirect without LOCATION": "it is in another region: set AWS_REGION to the bucket's",
    "builder error": "the endpoint cannot be used: check AWS_ENDPOINT_URL (http: needs AWS_ALLOW_HTTP=true)",
    # The machine's metadata service, asked last.
    "/latest/api/token": "no credentials were found: give this process a role, or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
}


class S3Bucket:
    """A bucket and a prefix in it.

    Args:
        bucket: The bucket's name.
        prefix: `""` or a prefix that ends in a slash.
        put_timeout_s: The longest `write` takes: half for retries, half for the last attempt.
    """

    errors: tuple[type[Exception], ...] = (BaseError, OSError)

    def __init__(self, bucket: str, prefix: str, put_timeout_s: float) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = prefix
        half_s = put_timeout_s / 2
        self._store = S3Store(
            bucket,
            # Not `client_options`: those would replace AWS_ALLOW_HTTP and its like; these are added.
            config={  # type: ignore[arg-type]  # the stubs know these keys only in `client_options`
                "timeout": timedelta(seconds=half_s),
                "connect_timeout": timedelta(seconds=min(half_s, _CONNECT_TIMEOUT_S)),
            },
            retry_config={
                "max_retries": _MAX_RETRIES,
                "retry_timeout": timedelta(seconds=half_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=1),
                    "base": 2,
                },
            },
        )

    def write(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object with one PUT; the interpreter is free meanwhile."""
        obstore.put(
            self._store,
            self._prefix + key,
            data,
            attributes={"Content-Type": content_type},
            use_multipart=False,
        )

    def explain(self, error: Exception) -> Refusal:
        """Say what one of `errors` means."""
        if isinstance(error, FileNotFoundError):
            detail = f"the S3 bucket {self._bucket} does not exist: create it or name another"
            return Refusal("the store's bucket does not exist", detail, lasting=True)
        text = str(error)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _EXPIRED in text:
            detail = f"S3 refused to write {self.url}: check the credentials, and grant s3:PutObject there"
            return Refusal("the store refused the credentials or the right to write", detail, lasting=True)
        for mark, remedy in _REMEDIES.items():
            if mark in text:
                return Refusal("the store is not set up rightly", f"{self.url}: {remedy}", lasting=True)
        return Refusal(
            "the store did not answer as it should", f"{self.url} did not answer as it should", lasting=False
        )

    def close(self) -> None:
        """The library closes its connections when the store is dropped."""


def open_bucket(url: str, put_timeout_s: float) -> S3Bucket:
    """Open `s3://bucket` or `s3://bucket/prefix`, without asking the network.

    Raises:
        ConfigError: The bucket's name or the prefix cannot be used.
    """
    bucket, prefix = bucket_and_prefix(url)
    return S3Bucket(bucket, prefix, put_timeout_s)
