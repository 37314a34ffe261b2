"""A Google Cloud Storage bucket as a store, through `google-cloud-storage`.

The library finds credentials itself (application default credentials: the metadata server of Cloud Run, App
Engine and GKE with Workload Identity, or GOOGLE_APPLICATION_CREDENTIALS) and reads STORAGE_EMULATOR_HOST.
Why this client: docs/decisions/0003-object-store-clients.md.
"""

from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from tidesight.errors import ConfigError
from tidesight.results.bucket import Refusal
from tidesight.results.keys import bucket_and_prefix

_CONNECT_TIMEOUT_S = 3.0
_FIRST_RETRY_S = 0.2
_LONGEST_RETRY_S = 1.0
_CREDENTIALS = "run with a service account, or run `gcloud auth application-default login`"


class GoogleBucket:
    """A bucket and a prefix in it.

    Args:
        client: The library's client; threads share it.
        bucket: The bucket's name.
        prefix: `""` or a prefix that ends in a slash.
        put_timeout_s: The longest `write` takes: half for retries, half for the last attempt.
    """

    # `requests` raises subclasses of OSError.
    errors: tuple[type[Exception], ...] = (GoogleAPIError, GoogleAuthError, OSError)

    def __init__(self, client: storage.Client, bucket: str, prefix: str, put_timeout_s: float) -> None:
        self.url = f"gs://{bucket}/{prefix}".rstrip("/")
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        half_s = put_timeout_s / 2
        self._attempt_timeout_s = (min(half_s, _CONNECT_TIMEOUT_S), half_s)
        # Writing the same bytes under the same name again is harmless, so any passing failure is retried.
        self._retry = DEFAULT_RETRY.with_timeout(half_s).with_delay(_FIRST_RETRY_S, _LONGEST_RETRY_S)

    def write(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object with one POST; the server checks its CRC32C."""
        blob = self._client.bucket(self._bucket).blob(self._prefix + key)
        blob.upload_from_string(
            data,
            content_type=content_type,
            timeout=self._attempt_timeout_s,
            retry=self._retry,
            checksum="crc32c",
        )

    def explain(self, error: Exception) -> Refusal:
        """Say what one of `errors` means."""
        if isinstance(error, NotFound):
            detail = f"the GCS bucket {self._bucket} does not exist: create it or name another"
            return Refusal(detail, lasting=True)
        if isinstance(error, Forbidden | Unauthorized):
            detail = f"GCS refused to write {self.url}: grant its service account roles/storage.objectUser"
            return Refusal(detail, lasting=True)
        if isinstance(error, GoogleAuthError) and not error.retryable:
            return Refusal(f"{self.url}: no credentials that Google accepts; {_CREDENTIALS}", lasting=True)
        return Refusal(f"{self.url} did not answer as it should; try again", lasting=False)

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()


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
    return GoogleBucket(client, bucket, prefix, put_timeout_s)
