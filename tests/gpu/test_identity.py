"""The identity loss on CUDA: the CPU's distance and gradient, and nobody waits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import weight_file
from PIL import Image

from omega_cli.metrics.identity import load_identity

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_distance_and_gradient_are_those_of_the_cpu(astronaut) -> None:
    weight_file("sface")
    with Image.open(astronaut) as photo:
        pixels = np.asarray(photo.convert("RGB"))
    truth = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    image = torch.nn.functional.avg_pool2d(truth, 7, 1, 3)
    eyes, nose, mouth = [[198.0, 97.0], [244.0, 96.0]], [222.0, 122.0], [[204.0, 146.0], [242.0, 146.0]]
    points = torch.tensor([[*eyes, nose, *mouth]])
    found = {}
    for device in ("cpu", "cuda"):
        net = load_identity("sface", device)
        given = [t.to(device) for t in (image, truth, points)]
        net.distance(*given)  # the template is sent once
        given[0].requires_grad_()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            distance = net.distance(*given)
            distance.sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert given[0].grad is not None
        found[device] = distance.detach().cpu(), given[0].grad.cpu()
    assert found["cpu"][0].item() > 0.02
    assert torch.allclose(found["cuda"][0], found["cpu"][0], atol=3e-3)  # convolutions in TF32
    ours, theirs = (found[device][1].flatten() for device in ("cuda", "cpu"))
    assert torch.nn.functional.cosine_similarity(ours, theirs, 0) > 0.99
