"""Loads the models that come with merlind."""

from importlib.resources import files

from onnxruntime import InferenceSession, SessionOptions


def load_model(name: str) -> InferenceSession:
    """Load a model of data/ for one thread: a worker has one core, and more threads would only wait for each other."""
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # An arena would keep the most memory that a photo ever took.
    options.enable_cpu_mem_arena = False
    model = (files("merlind.merlinface.scorer") / "data" / name).read_bytes()
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])
