"""The embedded weights say truthfully what they are."""

import hashlib
import json
import re
from importlib.resources import files

import pytest

from tidesight.detection.coco import COCO_NAMES
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import load_engine


@pytest.fixture(scope="module")
def metadata() -> dict[str, str]:
    found: dict[str, str] = load_engine("onnxruntime", embedded_model()).signature.metadata
    return found


def test_the_file_is_small_enough_to_commit() -> None:
    assert embedded_model().stat().st_size <= 4_000_000


def test_names_head_and_input_size_are_in_the_file(metadata: dict[str, str]) -> None:
    assert tuple(json.loads(metadata["tidesight.names"])) == COCO_NAMES
    assert (metadata["tidesight.head"], metadata["tidesight.input_size"]) == ("yolox", "416x416")


def test_licence_and_origin_are_in_the_file(metadata: dict[str, str]) -> None:
    assert metadata["tidesight.license"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{64}", metadata["tidesight.base_sha256"])
    assert metadata["tidesight.seed"].isdecimal()
    assert "128 pictures, 929 boxes" in metadata["tidesight.data"]


def test_the_command_names_no_path_of_a_machine(metadata: dict[str, str]) -> None:
    assert metadata["tidesight.command"].startswith("tidesight train --data ")
    assert not [text for key, text in metadata.items() if "/" in text and key != "tidesight.names"]


def test_training_gained_on_its_data_and_forgot_little(metadata: dict[str, str]) -> None:
    figures = json.loads(metadata["tidesight.ap"])
    assert figures["coco128"]["after"] > figures["coco128"]["before"]
    assert figures["coco-val-dev"]["after"] >= figures["coco-val-dev"]["before"] - 0.01


def test_the_readme_beside_the_weights_gives_the_same_figures(metadata: dict[str, str]) -> None:
    readme = (files("tidesight.detection.weights") / "README.md").read_text(encoding="utf-8")
    assert metadata["tidesight.command"] in re.sub(r"\s*\\\n\s*", " ", readme)
    assert metadata["tidesight.base_sha256"] in readme
    assert hashlib.sha256(embedded_model().read_bytes()).hexdigest() in readme
    for figures in json.loads(metadata["tidesight.ap"]).values():
        assert f"{figures['before']:.4f}" in readme
        assert f"{figures['after']:.4f}" in readme
