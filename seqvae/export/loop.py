"""Greedy decoding as one ONNX graph: a `Loop` whose body chooses a token and takes a step of the decoder.

Per step, as `seqvae.model.decoding.decode` with temperature 0: the likeliest token of each sentence but padding, BOS
and the unknown word; a sentence that has met EOS goes on with padding, and all stop when each has met it.
"""

from collections.abc import Iterable

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, compose, helper, numpy_helper

from seqvae.data.batch import END, PADDING, START, UNKNOWN


def build_greedy(start: ModelProto, step: ModelProto) -> ModelProto:
    """Join the graphs of the first and of any other step: z (B, D), labels, max_length () -> ids (B, T).

    The longest sentence has `max_length` tokens, its EOS included.

    Args:
        start: z, and labels -> log p (B, V), states.
        step: the last token (B,), z, labels, states -> log p (B, V), new states.
    """
    given = [one.name for one in start.graph.input]  # z, label
    first, later = compose.add_prefix(start, "start/").graph, compose.add_prefix(step, "step/").graph
    shared = share_initializers(first, later)
    rename(first.node, {f"start/{name}": name for name in given})
    rename(later.node, shared | {f"step/{name}": name for name in given})
    body = build_body(later, later.input[1 + len(given) :])
    carried = [*(one.name for one in first.output), "ended"]
    nobody = helper.make_tensor("", TensorProto.BOOL, [1], [0])
    last = [f"last/{name}" for name in carried]
    nodes = [
        *first.node,
        helper.make_node("Shape", ["z"], ["rows"], end=1),
        helper.make_node("ConstantOfShape", ["rows"], ["ended"], value=nobody),
        helper.make_node("Loop", ["max_length", "true", *carried], [*last, "steps"], body=body),
        helper.make_node("Transpose", ["steps"], ["ids"], perm=[1, 0]),
    ]
    longest = helper.make_tensor_value_info("max_length", TensorProto.INT64, [])
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    constants = [*make_constants(later.output[0]), *first.initializer]
    constants += [one for one in later.initializer if one.name not in shared]
    graph = helper.make_graph(nodes, "greedy", [*start.graph.input, longest], [ids], constants)
    model = helper.make_model(graph, opset_imports=start.opset_import, ir_version=start.ir_version)
    checker.check_model(model, full_check=True)
    return model


def build_body(step: GraphProto, states: Iterable[ValueInfoProto]) -> GraphProto:
    """Build the body of the loop: log p, states and who has ended -> those after one more token, and the token."""
    log_prob = copy_type("log_prob", step.output[0])
    nodes = [
        helper.make_node("Add", ["log_prob", "banned"], ["allowed"]),
        helper.make_node("ArgMax", ["allowed"], ["step/token"], axis=1, keepdims=0),
        helper.make_node("Where", ["had_ended", "padding", "step/token"], ["id"]),
        helper.make_node("Equal", ["step/token", "end"], ["is_end"]),
        helper.make_node("Or", ["had_ended", "is_end"], ["has_ended"]),
        helper.make_node("Not", ["has_ended"], ["goes_on"]),
        helper.make_node("Cast", ["goes_on"], ["one"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["one"], ["count"], keepdims=0),
        helper.make_node("Cast", ["count"], ["any_goes_on"], to=TensorProto.BOOL),
        *step.node,
    ]
    boolean, whole = TensorProto.BOOL, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("number", whole, []),
        helper.make_tensor_value_info("going", boolean, []),
        log_prob,
        *states,
        helper.make_tensor_value_info("had_ended", boolean, ["batch"]),
    ]
    outputs = [
        helper.make_tensor_value_info("any_goes_on", boolean, []),
        *step.output,
        helper.make_tensor_value_info("has_ended", boolean, ["batch"]),
        helper.make_tensor_value_info("id", whole, ["batch"]),
    ]
    return helper.make_graph(nodes, "step", inputs, outputs)


def make_constants(log_prob: ValueInfoProto) -> list[TensorProto]:
    """Make what the loop needs besides weights: ids, and what to add to log p (B, V) of banned words."""
    kind = log_prob.type.tensor_type
    banned = np.zeros(kind.shape.dim[1].dim_value, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    banned[[PADDING, START, UNKNOWN]] = -np.inf
    values = {"true": np.bool_(True), "banned": banned, "padding": np.int64(PADDING), "end": np.int64(END)}
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def share_initializers(one: GraphProto, other: GraphProto) -> dict[str, str]:
    """Find equal weights of two graphs: the name in `other` -> that in `one`, so that they are stored once."""
    known = {describe(tensor): tensor.name for tensor in one.initializer}
    found = {tensor.name: known.get(describe(tensor)) for tensor in other.initializer}
    return {name: same for name, same in found.items() if same is not None}


def describe(tensor: TensorProto) -> tuple[int, tuple[int, ...], bytes]:
    """Return type, shape and bytes of a tensor."""
    return tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()


def rename(nodes: Iterable[NodeProto], names: dict[str, str]) -> None:
    """Rename what nodes take and give, those of graphs inside them too."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            rename(attribute.g.node, names)


def copy_type(name: str, value: ValueInfoProto) -> ValueInfoProto:
    """Describe a value of another name and the same type."""
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
