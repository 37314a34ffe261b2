"""Every error Tidesight raises on purpose; each knows its HTTP status.

TidesightError (500)
 |- InputError (400)            what a caller sent
 |   |- Unauthorized (401)      no API key, or not one of those accepted
 |   |- BadImage (400)          not a picture that can be decoded
 |   |- SlowBody (408)          the body did not arrive in time
 |   |- TooLarge (413)          too many bytes or pixels
 |   |- UnsupportedType (415)   a content type or picture format that is not accepted
 |   `- InvalidOption (422)     an option outside its range; `field` names it
 |- Refused                     nothing wrong with the request, but not now; `retry_after_s` says when
 |   |- Overloaded (429)        it would miss its deadline
 |   |- Unavailable (503)       starting or draining
 |   `- StoreError (503)        the result could not be stored
 |- WorkerFailed (500)          the detector itself failed on a request
 |- InternalError (500)         anything that was not foreseen
 |- ModelError (500)            a model file that cannot be used
 |- DataError (500)             a data set that cannot be used
 |- SourceError (500)           a video or camera that cannot be read
 |- FleetError (500)            a URL that does not answer as a fleet does
 |- ConfigError (500)           bad settings or arguments; the command line exits with 2
 `- MissingExtra (500)          an optional package is not installed
"""

from typing import ClassVar


class TidesightError(Exception):
    """Base of all errors raised on purpose.

    Args:
        detail: What is wrong and what to do about it, for whoever runs the program; `caller_detail` says what a
            caller of the API is told.
        field: The option, field or argument at fault, when there is one.
        retry_after_s: Seconds after which trying again is sensible, when that is known.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Error"
    # Told to callers in place of `detail`, which may name files, hosts and libraries; None where it never does.
    caller_detail: ClassVar[str | None] = "an error of the server; its log says more"

    def __init__(self, detail: str, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s


class InputError(TidesightError):
    """What a caller sent cannot be used."""

    status = 400
    title = "Bad request"
    caller_detail = None


class Unauthorized(InputError):
    """No API key, or not one of those accepted."""

    status = 401
    title = "API key needed"


class BadImage(InputError):
    """The bytes are not a picture that can be decoded."""

    title = "Not a usable image"


class SlowBody(InputError):
    """The request's body did not arrive within its time limit."""

    status = 408
    title = "Body too slow"


class TooLarge(InputError):
    """Too many bytes or too many pixels."""

    status = 413
    title = "Too large"


class UnsupportedType(InputError):
    """A content type or picture format that is not accepted."""

    status = 415
    title = "Unsupported type"


class InvalidOption(InputError):
    """An option is of the wrong type or outside its range."""

    status = 422
    title = "Invalid option"


class Refused(TidesightError):
    """Nothing is wrong with the request, but it cannot be served now."""

    status = 503
    title = "Refused"
    caller_detail: ClassVar[str | None] = None


class Overloaded(Refused):
    """The instance has more to do than it can in time, so no work is done for the request.

    Args:
        detail: As for all errors.
        field: As for all errors.
        retry_after_s: As for all errors.
        reason: "deadline" (it would be late), "queue_full", "memory" (too many bytes are waiting) or "expired" (its
            deadline passed in the queue); a label of the metric of refusals.
    """

    status = 429
    title = "Overloaded"

    def __init__(
        self, detail: str, field: str | None = None, retry_after_s: float | None = None, reason: str = "deadline"
    ) -> None:
        super().__init__(detail, field, retry_after_s)
        self.reason = reason


class Unavailable(Refused):
    """The instance is starting or draining."""

    title = "Unavailable"


class StoreError(Refused):
    """The object store did not take a result; the reason is worded for callers, the log has the place."""

    title = "Result not stored"


class WorkerFailed(TidesightError):
    """The detector failed on this request; the instance goes on."""

    title = "Detection failed"
    caller_detail = None


class InternalError(TidesightError):
    """Something that was not foreseen; the log has it."""

    title = "Internal error"
    caller_detail = None


class ModelError(TidesightError):
    """A model file that cannot be used."""

    title = "Unusable model"


class DataError(TidesightError):
    """A data set that cannot be used."""

    title = "Unusable data"


class SourceError(TidesightError):
    """A video or camera that cannot be read."""

    title = "Unusable source"


class FleetError(TidesightError):
    """A URL at which no instance answers, or none that can be used as asked."""

    title = "No usable fleet"


class ConfigError(TidesightError):
    """Bad settings or arguments."""

    title = "Bad configuration"


class MissingExtra(TidesightError):
    """An optional package is needed and not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of `tidesight` that installs it.
    """

    title = "Optional package missing"

    def __init__(self, package: str, extra: str) -> None:
        in_a_clone = f"in a clone: pip install -c constraints.txt -e '.[{extra}]'"
        super().__init__(f"{package} is not installed; run: pip install 'tidesight[{extra}]'; {in_a_clone}")
