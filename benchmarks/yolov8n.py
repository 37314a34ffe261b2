"""A YOLOv8n at 640 in FP32, made from the assets' INT8 file: python -m benchmarks.yolov8n writes it.

That file was quantised dynamically: each convolution's weights are INT8 with one scale, its inputs are quantised
as it runs. Multiplying the weights out and taking the quantising of the inputs away gives plain convolutions, in
FP32 as a training framework exports them. The weights are under the AGPL: the file stays on this machine.
"""

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidesight.errors import DataError
from tidesight.settings import assets_folder

if TYPE_CHECKING:
    from onnx import NodeProto

SOURCE = "models/agpl-compat-only/yolov8n-int8.onnx"
FILE = Path(__file__).parents[1] / "runs/benchmarks/yolov8n-640-fp32.onnx"


def fp32_file(assets: Path, out: Path = FILE) -> Path:
    """The FP32 file; written when it is not there.

    Raises:
        DataError: the assets hold no INT8 file to make it from.
    """
    import onnx

    if not out.exists():
        source = assets / SOURCE
        if not source.is_file():
            raise DataError(f"no {SOURCE} in the assets")
        out.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(in_fp32(onnx.load(source)), out)
    return out


def in_fp32(model: Any) -> Any:
    """A dynamically quantised network -> the same with plain convolutions."""
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    tensors = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    for node in [node for node in graph.node if node.op_type == "ConvInteger"]:
        picture, weight, _, zero = node.input
        scale = tensors[weight.removesuffix("_quantized") + "_scale"]
        plain = (tensors[weight].astype(np.float32) - np.float32(tensors[zero])) * scale
        graph.initializer.append(numpy_helper.from_array(plain, _plain_name(weight)))
        scaled = users[users[node.output[0]][0].output[0]][0]  # the integers are cast, then multiplied by both scales
        inputs, last = [maker[picture].input[0], _plain_name(weight)], scaled
        for add in users[scaled.output[0]]:
            for bias in filter(None, map(maker.get, add.input)):
                if add.op_type == "Add" and bias.op_type == "Reshape":
                    inputs, last = [*inputs, bias.input[0]], add
        convolution = helper.make_node("Conv", inputs, list(last.output), name=f"{node.name}_fp32")
        convolution.attribute.extend(node.attribute)
        maker |= dict.fromkeys(last.output, convolution)
    _replace_nodes(graph, _needed(maker, [output.name for output in graph.output]))
    onnx.checker.check_model(model)
    return model


def _plain_name(weight: str) -> str:
    return weight.removesuffix("_quantized")  # as it was called before


def _needed(maker: "dict[str, NodeProto]", outputs: list[str]) -> "list[NodeProto]":
    """The nodes that the outputs need, each after those it needs itself."""
    done: dict[int, NodeProto] = {}

    def visit(name: str) -> None:
        node = maker.get(name)
        if node is not None and id(node) not in done:
            for needed in node.input:
                visit(needed)
            done[id(node)] = node

    for name in outputs:
        visit(name)
    return list(done.values())


def _replace_nodes(graph: Any, nodes: "list[NodeProto]") -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    used = {name for node in copies for name in node.input}
    tensors = [one for one in graph.initializer if one.name in used]
    for kept, new in ((graph.node, copies), (graph.initializer, tensors), (graph.value_info, [])):
        del kept[:]
        kept.extend(new)


if __name__ == "__main__":
    print(fp32_file(assets_folder()))
