"""Make examples/driver.mp4 and its truth, examples/driver_motion.npz: `python examples/make_driver.py`.

A film of nobody: the open head, painted by rule (driver_look.py), moved by a script (driver_motion.py),
with a soft synthesised voice. Because its motion is known, the tests measure the tracker against it.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from driver_look import Look, draw
from driver_motion import FPS, SYLLABLES, bump, script, times

from omega_cli.avatar import codecs
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.reenact.transfer import compose, split_head_rotation
from omega_cli.render.orbit import frame_head

SIZE = 512
SOUND_RATE = 32_000
IDENTITY_SEED = 11


def truth(head: HeadModel) -> HeadParams:
    """The scripted motion as parameters of the open head."""
    t = times()
    shapes, angles = script(t)
    params = HeadParams.zeros(head.S, head.E, len(t))
    expression = params.expression.clone()
    for name, weight in shapes.items():
        expression[:, head.expression_names.index(name)] = torch.from_numpy(weight).float()
    rad = {name: torch.from_numpy(np.deg2rad(a)).float() for name, a in angles.items()}
    none = torch.zeros(len(t))
    yaw = torch.stack([none, rad["yaw"], none], 1)
    pitch = torch.stack([rad["pitch"], none, none], 1)
    roll = torch.stack([none, none, rad["roll"]], 1)
    turn = compose(compose(yaw, pitch), roll)
    bust, neck = split_head_rotation(torch.zeros(3), torch.zeros(3), turn)
    gaze = torch.stack([rad["gaze_pitch"], rad["gaze_yaw"], none], 1)
    generator = torch.Generator().manual_seed(IDENTITY_SEED)
    betas = 0.6 * torch.randn(head.S, generator=generator)
    return params.replace(
        betas=betas, expression=expression, global_orient=bust, neck_pose=neck, leye_pose=gaze, reye_pose=gaze
    )


def voice(path: Path) -> None:
    """A hummed tune that swells with each syllable, over a quiet chord; 16-bit mono WAV."""
    t = np.arange(round(SOUND_RATE * len(times()) / FPS)) / SOUND_RATE
    sound = 0.015 * sum(np.sin(2 * math.pi * f * t) for f in (110.0, 164.81, 220.0))
    for number, (start, length, jaw, *_) in enumerate(SYLLABLES):
        pitch = 196.0 * 2 ** ((0, 2, 4, 2, 5, 4, 0, 2, -1, 0)[number] / 12)
        tone = sum(np.sin(2 * math.pi * k * pitch * t) / k**2 for k in (1, 2, 3))
        sound = sound + 0.35 * (0.4 + jaw) * bump(t, start, length) * tone
    fade = np.clip(np.minimum(t, t[-1] - t) / 0.2, 0, 1)
    samples = (np.clip(sound * fade, -1, 1) * 32000).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SOUND_RATE)
        out.writeframes(samples.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parent, help="folder to write into"
    )
    parser.add_argument("--sheet", type=Path, help="also a contact sheet of every tenth frame")
    args = parser.parse_args()
    head = load_head()
    params = truth(head)
    look = Look(head, head.identity(params.betas))
    vertices = head.forward(params, look.hair_offsets).vertices
    upper = vertices[0][vertices[0][:, 1] > vertices[0][:, 1].amin() + 0.06]  # shoulders run out of the frame
    camera = frame_head(upper, fill=0.8).camera(0.0, 2.0, SIZE, "driver")
    frames = [draw(look, v, camera) for v in vertices]
    tags = {
        "title": "Scripted driver",
        "comment": "Synthetic: drawn by examples/make_driver.py, shows no person.",
    }
    with tempfile.TemporaryDirectory() as scratch:
        sound = Path(scratch) / "voice.wav"
        voice(sound)
        codecs.write_video(args.output / "driver.mp4", frames, FPS, audio_from=sound, metadata=tags, crf=24)
    codecs.save_params(args.output / "driver_motion.npz", params, fps=FPS, head=head)
    if args.sheet:
        images = [torch.from_numpy(f).permute(2, 0, 1).float() / 255 for f in frames[::10]]
        codecs.save_image(
            args.sheet, codecs.contact_sheet(images, 5, [f"{i * 10 / FPS:.1f} s" for i in range(15)])
        )
    print(args.output / "driver.mp4")


if __name__ == "__main__":
    main()
