"""Tiny ONNX networks for tests: a distance of two images, and features of clips."""

import onnx
from onnx import TensorProto, helper

LAST_IR_VERSION = 10  # which onnxruntime of any recent version reads


def write(path, inputs, nodes, output):
    """Writes a network of float inputs {name: shape}, nodes and an output (name, shape)."""
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in inputs.items()
    ]
    out = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])
    graph = helper.make_graph(nodes, "tiny", infos, [out])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=LAST_IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_distance(path, keepdims=1, shape=("N", 3, "H", "W")):
    """The mean absolute difference of two images, as [N, 1, 1, 1] or, without keepdims, [N]."""
    nodes = [
        helper.make_node("Sub", ["real", "generated"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["out"], axes=[1, 2, 3], keepdims=keepdims),
    ]
    output = ("out", ["N", 1, 1, 1] if keepdims else ["N"])
    return write(path, {"real": shape, "generated": shape}, nodes, output)


def write_features(path, shape=("N", 3, "T", "H", "W"), axes=(2, 3, 4), operation="ReduceMean"):
    """The mean of each channel of clips, [N, 3]; other axes give outputs of other shapes."""
    node = helper.make_node(operation, ["clips"], ["out"], axes=axes, keepdims=0)
    kept = [name for axis, name in enumerate(shape) if axis not in axes]
    return write(path, {"clips": shape}, [node], ("out", kept))
