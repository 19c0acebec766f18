"""The workloads by name."""

from harness.asking import w2, w8
from harness.common import Workload
from harness.sending import w1, w1_slow, w1b, w6, w7
from harness.working import w3, w4, w5

WORKLOADS: dict[str, Workload] = {
    "W1": w1,
    "W1b": w1b,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "W5": w5,
    "W6": w6,
    "W7": w7,
    "W8": w8,
    "W1slow": w1_slow,
}
