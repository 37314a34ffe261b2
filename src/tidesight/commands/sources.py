"""What `tidesight detect` was pointed at: files, folders, globs, URLs, standard input."""

import glob
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from tidesight.errors import BadImage, ConfigError, TooLarge

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_URL_TIMEOUT_S = 20


@dataclass(frozen=True)
class Source:
    """One picture to be read.

    Attributes:
        name: Path, URL or "-".
        place: Where what is made of it belongs in an output folder: a relative path without suffix,
            with the folders below the one that was searched. Not unique.
    """

    name: str
    place: PurePath

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            BadImage: it cannot be read.
            TooLarge: it has more bytes than are decoded.
        """
        from tidesight.detection.image import ImageLimits

        most_bytes = ImageLimits().max_bytes
        try:
            if self.name == "-":
                data = sys.stdin.buffer.read(most_bytes + 1)
            elif is_url(self.name):
                data = _fetch(self.name, most_bytes + 1)
            else:
                with open(self.name, "rb") as file:
                    data = file.read(most_bytes + 1)
        except (OSError, ValueError) as error:
            raise BadImage(f"cannot read {self.name}: {error}") from None
        if len(data) > most_bytes:
            raise TooLarge(f"{self.name} has more than {most_bytes} bytes")
        return data


def is_url(text: str) -> bool:
    """Whether it is an http or https URL."""
    return text.startswith(("http://", "https://"))


def find_sources(names: Iterable[str]) -> Iterator[Source]:
    """Pictures that the names stand for, in order; folders are searched through, sorted.

    Raises:
        ConfigError: a name stands for nothing, or cannot be looked up.
    """
    for name in names:
        if name == "-":
            yield Source(name, PurePath("stdin"))
        elif is_url(name):
            last = name.split("?")[0].rstrip("/").rpartition("/")[2]
            yield Source(name, PurePath(PurePath(last).stem or "picture"))
        else:
            try:
                yield from _find_files(name)
            except OSError as error:
                raise ConfigError(f"cannot search {name}: {error.strerror}", field="sources") from None


def _find_files(name: str) -> list[Source]:
    path = Path(name)
    if path.is_file():
        return [Source(name, PurePath(path.stem))]
    searched = path.is_dir()
    paths = path.rglob("*") if searched else map(Path, glob.glob(name, recursive=True))
    found = sorted(one for one in paths if one.suffix.lower() in _SUFFIXES and one.is_file())
    if not found:
        raise ConfigError(f"no pictures ({', '.join(sorted(_SUFFIXES))}) at {name}", field="sources")
    return [
        Source(str(one), one.relative_to(path).with_suffix("") if searched else PurePath(one.stem)) for one in found
    ]


def _fetch(url: str, most_bytes: int) -> bytes:
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    try:
        request = Request(url, headers={"User-Agent": "tidesight"})  # noqa: S310 - only http(s) gets here
        with urlopen(request, timeout=_URL_TIMEOUT_S) as reply:  # noqa: S310
            data: bytes = reply.read(most_bytes)
    except HTTPException as error:  # no OSError: a blank in the URL, an answer cut short or no HTTP at all
        raise BadImage(f"cannot read {url}: {error}") from None
    return data
