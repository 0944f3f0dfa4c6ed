"""mv-diffuse, files in, files out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from .. import weights
from ..avatar import codecs, layout, record
from ..avatar.crop import photo_area
from ..avatar.layout import Avatar
from ..console import Report
from ..errors import OmegaError
from ..head.assets import load_head
from ..head.frame import head_frame
from . import checkpoint
from .config import MvDiffuseConfig
from .lift import View, lift_views
from .network import ViewNet
from .predict import predict_views
from .texture import HAIR, HAT
from .views import canonical_cameras


def run(
    avatar: Avatar,
    config: MvDiffuseConfig,
    *,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
    views: Path | None = None,
) -> Path:
    """source/ -> views/. `views`: the user's own pictures, taken as they are (see the command's help)."""
    source = avatar.source
    inputs = [source / n for n in (layout.SOURCE_IMAGE, layout.SOURCE_PARSING, layout.FLAME, layout.CAMERAS)]
    for path in inputs:
        record.needs(path, "omega track IMAGE -o " + str(avatar.root))
    crop = source / layout.SOURCE_CROP  # a source/ made by hand may lack it
    inputs += [crop] if crop.is_file() else []
    own = user_files(views, config.size) if views is not None else {}
    model = load_head()
    learned = _load_network(config, report) if config.source == "omega" else None
    digests = {"open_head": model.sha256} | ({} if learned is None else {"view_net": learned.sha256})
    with record.writing_stage(
        avatar, stage="mv-diffuse", folder=avatar.views, config=config, seed=seed,
        inputs=[*inputs, *own.values()], weights=digests, device=device, report=report, force=force,
    ) as out:  # fmt: skip
        params, camera = head_frame(
            model, codecs.load_params(source / layout.FLAME), codecs.load_cameras(source / layout.CAMERAS)[0]
        )
        image = codecs.load_image(source / layout.SOURCE_IMAGE, 4)
        labels = codecs.load_labels(source / layout.SOURCE_PARSING)
        area = photo_area(codecs.load_json(crop) if crop.is_file() else None, camera.width, camera.height)
        lift = lift_views(
            model,
            params,
            camera,
            image,
            labels,
            area,
            canonical_cameras(config.size, config.half_extent),
            config.texture_size,
            config.inflate,
            config.mirror,
            torch.Generator().manual_seed(seed),
            device,
        )
        finished = lift.views
        if learned is not None and wears_a_hat(labels):
            report.note("the photo shows a hat, which the view network has not learned: the lift alone")
        elif learned is not None:
            points = model.landmark_points(model(params).vertices[0], "ibug68")
            finished = predict_views(
                learned.net, lift.views, image, labels, area, camera, points, learned.size
            )
        for view in finished:
            write_view(out.path, view.to("cpu"), own)
        codecs.save_cameras(out.path / layout.CAMERAS, [view.camera.to("cpu") for view in lift.views])
        sheet = [codecs.load_image(out.path / layout.view_rgb(v.camera.id), 3) for v in lift.views]
        sheet += [codecs.load_image(out.path / layout.view_normal(v.camera.id), 3) for v in lift.views]
        codecs.save_image(out.path / layout.SHEET, codecs.contact_sheet(sheet, columns=len(lift.views)))
        thickness = lift.displacement.norm(dim=-1)
        out.metrics["hair_thickness_max_m"] = round(float(thickness.max()), 4)
        out.summary = f"{len(lift.views)} views of {config.size} px" + (
            f", {len(own)} files yours" if own else ""
        )
    return avatar.views


@dataclass(frozen=True)
class Learned:
    """A view network, the picture size that it was trained at, px, and the file's digest."""

    net: ViewNet
    size: int
    sha256: str


def _load_network(config: MvDiffuseConfig, report: Report) -> Learned:
    path = Path(config.net) if config.net else weights.resolve("view_net", report)
    if not path.is_file():
        raise OmegaError(f"There is no view network {path}.", "Leave --net out, or train one: omega train.")
    net, about = checkpoint.from_bytes(path.read_bytes(), str(path))
    return Learned(net, int(str(about.get("size", 192))), weights.sha256_of(path))


def wears_a_hat(labels: torch.Tensor) -> bool:  # [H, W]
    """Whether a hat covers more of the head than a band would."""
    hat, hair = (labels == HAT).sum(), (labels == HAIR).sum()
    return bool(hat > 0.3 * (hat + hair)) and bool(hat > 0.005 * labels.numel())


def write_view(folder: Path, view: View, own: dict[str, Path]) -> None:
    """One view's three pictures; a file of the user's is copied byte for byte."""
    normal = (view.normal * 0.5 + 0.5).clamp(0, 1)
    made = {
        layout.view_rgb(view.camera.id): view.rgb,
        layout.view_normal(view.camera.id): normal,
        layout.view_mask(view.camera.id): view.mask,
    }
    for name, image in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in own:
            path.write_bytes(own[name].read_bytes())
        else:
            codecs.save_image(path, image)


def user_files(folder: Path, size: int) -> dict[str, Path]:
    """The view files that a user's folder holds; refuses one that lacks colour views or has other sizes."""
    names = [layout.view_rgb, layout.view_normal, layout.view_mask]
    found = {n(az): folder / n(az) for az in layout.AZIMUTHS for n in names if (folder / n(az)).is_file()}
    missing = [layout.view_rgb(az) for az in layout.AZIMUTHS if layout.view_rgb(az) not in found]
    if missing:
        raise OmegaError(
            f"{folder} lacks {', '.join(missing)}.",
            "A view set has six colour pictures: rgb/000.png ... rgb/315.png.",
        )
    for path in found.values():
        height, width = codecs.load_image(path, 3).shape[1:]
        if (height, width) != (size, size):
            raise OmegaError(
                f"{path} is {width} x {height} px, but the views are {size} x {size}.",
                f"Resize the set, or give its size: --size {width}.",
            )
    return found
