"""A Google Cloud Storage bucket as a store: Google's library finds credentials and endpoint, urllib3 writes.

The library finds credentials itself (application default credentials: the metadata server of Cloud Run, App
Engine and GKE with Workload Identity, or GOOGLE_APPLICATION_CREDENTIALS) and reads STORAGE_EMULATOR_HOST.
Its own upload costs eight times the CPU of the one request it makes: docs/decisions/0003-object-store-clients.md.
"""

import base64
import json
import time
from http import HTTPStatus
from random import Random
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import google_crc32c
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.auth.transport.urllib3 import AuthorizedHttp
from google.cloud import storage
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError

from tidesight.errors import ConfigError
from tidesight.results.backoff import Backoff
from tidesight.results.bucket import WRITERS, Refusal
from tidesight.results.keys import bucket_and_prefix

_CONNECT_TIMEOUT_S = 3.0
_BACKOFF = Backoff(first_s=0.2, longest_s=1.0)
_PASSING = (408, 429)
# A mistaken header is not to hold results up for days.
_LONGEST_RETRY_AFTER_S = 300.0
_CREDENTIALS = "run with a service account, or run `gcloud auth application-default login`"


class _Refused(Exception):
    """An answer that is not a stored object."""

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        super().__init__(f"GCS answered {status}")
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def passes(self) -> bool:
        return self.status in _PASSING or self.status >= 500 or self.status == HTTPStatus.OK


class GoogleBucket:
    """A bucket and a prefix in it.

    Args:
        http: Adds the credentials to requests; threads share it.
        endpoint: Where the service is, without a slash at the end.
        bucket: The bucket's name.
        prefix: `""` or a prefix that ends in a slash.
        put_timeout_s: The longest `write` takes: half for retries, half for the last attempt.
    """

    errors: tuple[type[Exception], ...] = (_Refused, HTTPError, GoogleAuthError, OSError)

    def __init__(self, http: AuthorizedHttp, endpoint: str, bucket: str, prefix: str, put_timeout_s: float) -> None:
        self.url = f"gs://{bucket}/{prefix}".rstrip("/")
        self._http = http
        self._upload_url = f"{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(prefix, safe='')}"
        self._bucket = bucket
        self._retry_s = put_timeout_s / 2
        self._timeout = Timeout(connect=min(self._retry_s, _CONNECT_TIMEOUT_S), read=self._retry_s)
        self._random = Random()  # noqa: S311  # jitter is no secret

    def write(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object with one POST, and compare the CRC32C that the server answers with.

        Writing the same bytes under the same name again is harmless, so any passing failure is retried.
        """
        ends_s = time.monotonic() + self._retry_s
        failures = 0
        while True:
            try:
                return self._attempt(key, data, content_type)
            except (_Refused, HTTPError) as error:
                failures += 1
                wait_s = _BACKOFF.delay_s(failures, self._random)
                if isinstance(error, _Refused):
                    wait_s = max(wait_s, error.retry_after_s or 0.0)
                passes = not isinstance(error, _Refused) or error.passes
                if not passes or time.monotonic() + wait_s > ends_s:
                    raise
            time.sleep(wait_s)

    def _attempt(self, key: str, data: bytes, content_type: str) -> None:
        url = self._upload_url + quote(key, safe="")
        headers = {"Content-Type": content_type}
        answer = self._http.urlopen(
            "POST", url, body=data, headers=headers, timeout=self._timeout, retries=False, redirect=False
        )
        if answer.status != HTTPStatus.OK or not _has_arrived(answer, data):
            raise _Refused(answer.status, _retry_after_s(answer))

    def explain(self, error: Exception) -> Refusal:
        """Say what one of `errors` means."""
        status = error.status if isinstance(error, _Refused) else 0
        if status == HTTPStatus.NOT_FOUND:
            detail = f"the GCS bucket {self._bucket} does not exist: create it or name another"
            return Refusal("the store's bucket does not exist", detail, lasting=True)
        refused = "the store refused the credentials or the right to write"
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            detail = f"GCS refused to write {self.url}: grant its service account roles/storage.objectUser"
            return Refusal(refused, detail, lasting=True)
        if isinstance(error, GoogleAuthError) and not (error.retryable or isinstance(error, TransportError)):
            return Refusal(refused, f"{self.url}: no credentials that Google accepts; {_CREDENTIALS}", lasting=True)
        reason = "the store did not answer as it should"
        retry_after_s = error.retry_after_s if isinstance(error, _Refused) else None
        return Refusal(reason, f"{self.url} did not answer as it should", lasting=False, retry_after_s=retry_after_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.http.clear()


def _has_arrived(answer: BaseHTTPResponse, data: bytes) -> bool:
    """Whether the server has the same bytes; what it does not say counts as the same."""
    try:
        crc32c = json.loads(answer.data).get("crc32c")
    except (ValueError, AttributeError):
        return False
    return crc32c is None or bool(crc32c == base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode())


def _retry_after_s(answer: BaseHTTPResponse) -> float | None:
    """The header of that name; a date in it is not understood, as GCS sends none."""
    text = answer.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() and len(text) < 20 else None


def _connections(endpoint: str) -> PoolManager:
    """Connections to an endpoint, through the proxy that the environment names for it, if any."""
    parts = urlsplit(endpoint)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    if proxy:
        return ProxyManager(proxy, maxsize=WRITERS, ca_certs=certifi.where())
    return PoolManager(maxsize=WRITERS, ca_certs=certifi.where())


def open_bucket(url: str, put_timeout_s: float) -> GoogleBucket:
    """Open `gs://bucket` or `gs://bucket/prefix`; may ask the metadata server whether there is one.

    Raises:
        ConfigError: The bucket's name or the prefix cannot be used, or no credentials are found.
    """
    bucket, prefix = bucket_and_prefix(url)
    try:
        # project=None: writing needs none, and finding one would cost a request.
        client = storage.Client(project=None)
    except DefaultCredentialsError as error:
        detail = f"--store {url}: no Google credentials were found; {_CREDENTIALS}"
        raise ConfigError(detail, field="store") from error
    http = AuthorizedHttp(client._credentials, _connections(client.api_endpoint))
    return GoogleBucket(http, client.api_endpoint, bucket, prefix, put_timeout_s)
