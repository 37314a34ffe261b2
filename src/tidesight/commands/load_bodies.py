"""What a load sends: pictures from a folder or those of the demo, encoded once."""

from pathlib import Path

from tidesight.commands.body_forms import BY_NAME, FORMS
from tidesight.commands.photographs import photographs
from tidesight.commands.sources import find_sources
from tidesight.detection.image_header import read_header
from tidesight.errors import BadImage, ConfigError, InputError
from tidesight.loadtest.target import Body
from tidesight.workload.scenario import BodyForm

_OF_PIXELS = {"raw": "raw JPEG", "json": "base64 in JSON", "multipart": "multipart form"}
_MOST_BYTES = 1 << 28


def bodies(pictures: Path | None, form: BodyForm, assets: Path) -> list[Body]:
    """A body for each picture.

    Args:
        pictures: Folder (searched through) or file; None is the demo's photographs.
        form: How they are sent.
        assets: Folder of optional assets, for the demo's; need not exist.

    Raises:
        ConfigError: there are no pictures, or more than should be held in memory.
        BadImage: one cannot be read, or is no picture.
    """
    if pictures is None:
        made = [FORMS[_OF_PIXELS[form]](photograph.pixels, {})[:2] for photograph in photographs(assets)]
        if not made:
            raise ConfigError("no pictures at hand: name a folder with --pictures, or pip install 'tidesight[demo]'")
        return [Body(data, content_type) for data, content_type in made]
    if not pictures.exists():
        raise ConfigError(f"--pictures {pictures}: no such folder", field="pictures")
    found, total_bytes = [], 0
    for source in find_sources([str(pictures)]):
        data = source.read()
        total_bytes += len(data)
        if total_bytes > _MOST_BYTES:
            raise ConfigError(f"--pictures {pictures}: more than {_MOST_BYTES >> 20} MiB; name a smaller folder")
        found.append(Body(*BY_NAME[form](data, _type_of(source.name, data), {})[:2]))
    return found


def _type_of(name: str, data: bytes) -> str:
    try:
        return f"image/{read_header(data).format}"
    except InputError as error:
        raise BadImage(f"{name}: {error.detail}") from None
