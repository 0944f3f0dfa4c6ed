"""Times the stages' pure functions on one avatar: `python -m omega_cli.generate.bench AVATAR`.

Files are read before, and nothing is written: render (posing and splatting, frames a second), parsing (the
face parser of track, always on the CPU, beside BiSeNet where that is), mv-diffuse (lift and network),
deform-flame (the whole fit) and splat-uv (views to the canonical map).
Beside it stand the kernels alone: `python -m omega_cli.kernels.bench`. The figures: docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import torch
import torch.nn.functional as F

from omega_cli import weights
from omega_cli.avatar import codecs, layout
from omega_cli.avatar.crop import photo_area
from omega_cli.avatar.layout import Avatar
from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.problem import deform
from omega_cli.deform_flame.stage import load_views
from omega_cli.errors import OmegaError
from omega_cli.gaussians.model import COLOURS
from omega_cli.head.assets import load_head
from omega_cli.head.frame import head_frame
from omega_cli.kernels import bench_timing as timing
from omega_cli.kernels.bench_timing import Case
from omega_cli.mv_diffuse import checkpoint
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from omega_cli.mv_diffuse.lift import lift_views
from omega_cli.mv_diffuse.predict import predict_views
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.render.orbit import frame_head
from omega_cli.render.refiner import Refiner
from omega_cli.render.rig import Rig
from omega_cli.render.stage import load_rig
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.stage import Photo, SplatHead, Views, splat_posed, splat_replayed
from omega_cli.track.stage import load_parser

SIDE = 512  # px of a rendered frame
FRAMES = 16  # different expressions, one a call


def render_case(avatar: Avatar, device: str) -> Iterator[Case]:
    """One frame: animate the head, pose the Gaussians, splat them."""
    rig = load_rig(avatar, device)
    generator = torch.Generator().manual_seed(0)
    moods = 0.3 * torch.rand(FRAMES, rig.head.E, generator=generator)
    poses = [rig.neutral().replace(expression=mood[None].to(device)) for mood in moods]
    camera = frame_head(rig.vertices(poses[0])[0].cpu()).camera(20.0, 5.0, SIDE).to(device)

    @torch.no_grad()
    def frame(rig: Rig, k: int) -> torch.Tensor:
        return rig.draw(rig.pose(rig.vertices(poses[k])[0]), camera).image

    shape = f"{len(rig.bound.canonical)} Gaussians, {SIDE}²"
    yield Case("render, raw", shape, [lambda k=k: frame(rig, k) for k in range(FRAMES)])
    fine = refined_rig(rig)
    yield Case("render, refined", shape, [lambda k=k: frame(fine, k) for k in range(FRAMES)])


def refined_rig(rig: Rig) -> Rig:
    """The same with 32 colours a Gaussian and an untrained refiner: what a trained one costs."""
    wide = {
        name: replace(part, colors=F.pad(part.colors, (0, COLOURS - part.colors.shape[1])))
        for name, part in (("uv", rig.bound.uv), ("vertex", rig.bound.vertex))
    }
    net = Refiner().to(rig.shaped.device).requires_grad_(False)
    return replace(rig, bound=replace(rig.bound, **wide), refiner=net)


def views_case(avatar: Avatar, device: str) -> Iterator[Case]:
    """mv-diffuse from the loaded photo: lift and view network."""
    config, head, source = MvDiffuseConfig(), load_head(), avatar.source
    fitted, photo = codecs.load_params(source / layout.FLAME), codecs.load_cameras(source / layout.CAMERAS)[0]
    params, camera = head_frame(head, fitted, photo)
    image = codecs.load_image(source / layout.SOURCE_IMAGE, 4)
    labels = codecs.load_labels(source / layout.SOURCE_PARSING)
    points = head.landmark_points(head(params).vertices[0], "ibug68")
    net, about = checkpoint.from_bytes(weights.resolve("view_net").read_bytes(), "view_net")
    net = net.to(device)

    area = photo_area(None, camera.width, camera.height)

    def views() -> object:
        lift = lift_views(
            head, params, camera, image, labels, area,
            canonical_cameras(config.size, config.half_extent), config.texture_size, config.inflate,
            config.mirror, torch.Generator().manual_seed(0), device,
        )  # fmt: skip
        return predict_views(net, lift.views, image, labels, area, camera, points, int(str(about["size"])))

    yield Case("mv-diffuse", f"6 views of {config.size}²", [views])


def parsing_case(avatar: Avatar, device: str) -> Iterator[Case]:
    """The labels of the aligned photo; a CPU's work on every device."""
    if device != "cpu":
        return
    image = codecs.load_image(avatar.source / layout.SOURCE_IMAGE, 4)
    seen = image[:3] * image[3:] + 1 - image[3:]
    ours: list[timing.Call] = [partial(load_parser("own"), seen)]
    shape = f"{seen.shape[2]}²"
    if weights.find("bisenet_parsing") is None:
        yield Case("parsing", shape, ours)
    else:
        yield Case("parsing", shape, ours, [partial(load_parser("bisenet"), seen)], way="BiSeNet")


def deform_case(avatar: Avatar, device: str) -> Iterator[Case]:
    """The whole fit, from the loaded views."""
    config, head = DeformFlameConfig(), load_head(device=device)
    photo = codecs.load_params(avatar.source / layout.FLAME).frame(0).to(device)
    views = [(c.to(device), normal.to(device), mask.to(device)) for c, normal, mask in load_views(avatar)]
    marks = codecs.load_arrays(avatar.source / layout.SOURCE_LANDMARKS, "points", "scores")
    points, scores = (torch.from_numpy(marks[name]).float().to(device) for name in ("points", "scores"))
    camera = codecs.load_cameras(avatar.source / layout.CAMERAS)[0].to(device)

    def fit() -> object:
        return deform(head, photo, views, config, points=points, scores=scores, photo=camera)

    yield Case("deform-flame", f"{len(views)} views, {config.iterations} steps", [fit])


def splat_case(avatar: Avatar, device: str) -> Iterator[Case]:
    """The posed head; of every view the features, what each pixel sees and the pyramids; the fusion. On a GPU
    replayed, as a batch has it from the third avatar on, beside the plain calls that a single avatar has."""
    config, head = SplatUVConfig(), load_head(device=device)
    params = codecs.load_params(avatar.mesh / layout.FLAME).to(device)
    offsets = codecs.load_offsets(avatar.mesh / layout.OFFSETS, len(head.v_template)).to(device)
    views = Views.load(avatar, layout.AZIMUTHS, device)
    photo = Photo.load(avatar, head, params, offsets, device)

    inputs = SplatHead.of(head), params, offsets, views, photo, config
    plain: list[timing.Call] = [lambda: splat_posed(*inputs)]
    shape = f"{len(views.rgb)} views of {views.rgb[0].shape[1]}² → {config.uv_size}², {config.levels} levels"
    if device == "cpu":
        yield Case("splat-uv", shape, plain)
    else:
        yield Case("splat-uv", shape, [lambda: splat_replayed(*inputs)], plain, way="not replayed")


STAGES = {
    "render": render_case,
    "parsing": parsing_case,
    "mv-diffuse": views_case,
    "deform-flame": deform_case,
    "splat-uv": splat_case,
}


def run(avatar: Avatar, device: str, stages: tuple[str, ...] = tuple(STAGES)) -> Iterator[timing.Row]:
    """Measured rows, one at a time."""
    clock = timing.Clock(device)
    for stage in stages:
        for row in map(clock.row, STAGES[stage](avatar, device)):
            yield row.with_note(f"{1e3 / row.ours_ms:.1f} a second")


@click.command(help="Time the stages on one avatar folder and print a table.")
@click.argument("avatar", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--only", type=click.Choice(list(STAGES)), multiple=True, help="Stages  [default: all]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows here.")
def main(avatar: Path, device: str, only: tuple[str, ...], json_file: Path | None) -> None:
    on = timing.machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in on.items()))
    try:
        rows = list(run(Avatar(avatar), device, only or tuple(STAGES)))
    except OmegaError as error:
        raise click.ClickException(f"{error}\n  {error.hint}") from error
    click.echo(timing.table(rows))
    if json_file is not None:
        timing.write_json(json_file, on, rows)


if __name__ == "__main__":
    main()
