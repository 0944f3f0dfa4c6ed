import numpy as np


def unwrap(head, named):
    v = head.mean
    u = 0.5 + np.arctan2(v[:, 0], v[:, 2]) / (2 * np.pi) * .98
    w = 1 - (v[:, 1] - v[:, 1].min()) / np.ptp(v[:, 1])
    return np.stack([u, w], 1), head.faces
