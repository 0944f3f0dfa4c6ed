"""OmegaModel: the learned parts of an avatar together, for training and for whoever wants tensors, not files.

The stages' own functions in their order: encode, splat, fuse, decode, pose, draw, refine. What files need is
left out (binding to the mesh and back), and the hem is asked once, where the analytic Gaussians are.
Cut at the stages' seams: encoder (splat-uv), decoder (decode), refiner (render).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from omega_cli.decode.analytic import Decoded, decode_surface
from omega_cli.decode.checkpoint import DECODER
from omega_cli.decode.config import DecodeConfig
from omega_cli.decode.fit import fit_pictures
from omega_cli.decode.learned import Changes, learned_change, refine_decoded
from omega_cli.decode.network import AvatarDecoder, DecoderConfig, UVLayout
from omega_cli.decode.pictures import Picture
from omega_cli.gaussians.binding import carriers, follow
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.gaussians.surface_motion import SurfaceMotion
from omega_cli.geometry.camera import Camera
from omega_cli.head.hem import hem_share
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.render.checkpoint import REFINER
from omega_cli.render.refiner import Refiner, RefinerConfig
from omega_cli.splat_uv.canonical import UVMap
from omega_cli.splat_uv.checkpoint import ENCODER, make_encoder
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.dino import DinoConfig
from omega_cli.splat_uv.encoder import EncoderConfig
from omega_cli.splat_uv.features import CHANNELS
from omega_cli.splat_uv.stage import Photo, SplatHead, SplatMesh, Views, splat_views


@dataclass(frozen=True)
class OmegaConfig:
    """Sizes of the three networks; those of the decoder that follow from the head and the encoder are set."""

    encoder: EncoderConfig | DinoConfig = field(default_factory=EncoderConfig)
    channels: tuple[int, ...] = (32, 64, 96, 128)  # of the decoder's U-Net
    refiner: RefinerConfig = field(default_factory=RefinerConfig)


@dataclass(frozen=True)
class Drawn:
    """T pictures: raw, refined [T, 3, H, W] before clamping, over their backgrounds; alpha [T, 1, H, W]."""

    raw: Tensor
    refined: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Stand:
    """A fitted head without its Gaussians: all of an avatar that does not change while the networks learn.

    shaped [V, 3] m: the mesh before expression and pose; mesh: it in the views' pose; vertices [T, V, 3] m
    and tables [T, V, 13] (`SurfaceMotion.table`): how it stands in T frames.
    """

    shaped: Tensor
    mesh: SplatMesh
    vertices: Tensor
    tables: Tensor

    @staticmethod
    @torch.no_grad()
    def of(head: HeadModel, params: HeadParams, offsets: Tensor, frames: HeadParams) -> Stand:
        """params: T = 1, the head in the views' frame; frames: T of the same identity."""
        shaped = head.canonical(params.betas, offsets)
        vertices = head.animate(shaped, frames).vertices
        motion = SurfaceMotion.between(shaped, head.faces)
        tables = torch.stack([motion.table(posed) for posed in vertices])
        return Stand(shaped, SplatMesh.posed(SplatHead.of(head), params, offsets), vertices, tables)


@dataclass(frozen=True)
class Base:
    """The avatar before any network: what decode makes of the colours, how much the hem leaves [N + V] of it,
    and what its fit to photo and views changed."""

    decoded: Decoded
    hem: Tensor
    fitted: Changes | None

    @staticmethod
    @torch.no_grad()
    def of(
        head: HeadModel,
        shaped: Tensor,
        uv_map: UVMap,
        pictures: Sequence[Picture] = (),
        steps: int = DecodeConfig.fit_steps,
    ) -> Base:
        """Decode without its network, which depends on the colours alone: nothing learned is in it.

        pictures: the photo, then the views; without them, or with no steps, nothing is fitted.
        """
        centres = (head.J_regressor @ shaped)[3:5]
        decoded = decode_surface(head, shaped, centres, uv_map.features.detach(), uv_map.weight.detach())
        # the hem is 5 mm wide and keeps still; what the network moves a Gaussian by is not worth asking again
        hem = hem_share(torch.cat([decoded.uv.means, shaped]), shaped, head)
        if not pictures or not steps:
            return Base(decoded, hem, None)
        photo, *views = pictures
        fit = fit_pictures(head, shaped, decoded, photo, views, steps, torch.Generator().manual_seed(0))
        return Base(decoded, hem, fit.changes)


@dataclass(frozen=True)
class Avatar:
    """canonical: N + V Gaussians on the canonical mesh, as they are drawn; corners, barycentric, shift: what
    carries them (`pose_gaussians`); changes: what the network added at texels and vertices."""

    canonical: Gaussians
    corners: Tensor
    barycentric: Tensor
    shift: Tensor
    changes: Changes


class OmegaModel(nn.Module):
    """Encoder, decoder and refiner on one head; analytic until it is trained. An encoder of DINOv3 needs its
    backbone attached."""

    def __init__(self, head: HeadModel, splat: SplatUVConfig, config: OmegaConfig | None = None) -> None:
        super().__init__()
        config = config or OmegaConfig()
        self.head, self.splat, self.layout = head, splat, UVLayout.of(head, splat.uv_size)
        features = len(CHANNELS) + config.encoder.outputs
        self.encoder = make_encoder(config.encoder)
        self.decoder = AvatarDecoder(
            DecoderConfig(features, config.channels, identity=2 * features, vertices=len(head.v_template))
        )
        self.refiner = Refiner(config.refiner)

    def files(self, **about: object) -> dict[str, bytes]:
        """The three networks as files, by their names in the registry; `about` (JSON values) in each.

        The decoder names its head and encoder, the refiner its decoder: the stages refuse other ones.
        """
        encoder = ENCODER.to_bytes(self.encoder, **about)
        decoder = DECODER.to_bytes(self.decoder, head=self.head.sha256, encoder=_sha256(encoder), **about)
        refiner = REFINER.to_bytes(self.refiner, decoder=_sha256(decoder), **about)
        return {ENCODER.name: encoder, DECODER.name: decoder, REFINER.name: refiner}

    def load(self, files: Mapping[str, bytes]) -> None:
        """Take over the networks of `files`. Raises OmegaError for others, RuntimeError for other sizes."""
        self.encoder.load_state_dict(ENCODER.from_bytes(files[ENCODER.name], ENCODER.name)[0].state_dict())
        self.decoder.load_state_dict(DECODER.from_bytes(files[DECODER.name], DECODER.name)[0].state_dict())
        self.refiner.load_state_dict(REFINER.from_bytes(files[REFINER.name], REFINER.name)[0].state_dict())

    def canonical_map(self, mesh: SplatMesh, views: Views, photo: Photo | None) -> tuple[UVMap, Tensor]:
        """Splat-uv: the map of filter bank and learned features, and the identity vector."""
        uv_map, identity, _ = splat_views(views, mesh, photo, self.splat, self.encoder)
        return uv_map, identity

    def avatar(self, shaped: Tensor, uv_map: UVMap, identity: Tensor, base: Base) -> Avatar:
        """Decode: both branches on the canonical mesh [V, 3] m."""
        decoded, faces = base.decoded, self.head.faces
        with _halved(decoded.texture):
            changes = learned_change(
                self.decoder, decoded, self.layout, uv_map.features, uv_map.weight, identity, base.fitted
            )
        made = refine_decoded(decoded, changes, shaped, faces, base.fitted)
        whole = Gaussians.concatenate([made.uv, made.vertex])
        whole = replace(whole, opacities=whole.opacities * base.hem)
        corners, weights = carriers(faces, made.face_index, made.barycentric, len(shaped))
        shift = whole.means - torch.cat([decoded.uv.means, shaped])
        return Avatar(whole, corners, weights, shift, changes)

    def posed(self, avatar: Avatar, tables: Tensor) -> list[Gaussians]:
        """Render's first step: the Gaussians in T poses, tables [T, V, 13] of a `Stand`."""
        return follow(avatar.canonical, tables, avatar.corners, avatar.barycentric, avatar.shift)

    def draw(self, posed: Sequence[Gaussians], cameras: Sequence[Camera], backgrounds: Tensor) -> Drawn:
        """Render's others: T pictures of one size, refined together; backgrounds [T, 3]."""
        return self.refined(*splatted(posed, cameras), backgrounds)

    def refined(self, image: Tensor, alpha: Tensor, backgrounds: Tensor) -> Drawn:
        """From splatted channels [T, 32, H, W] over black and alpha [T, 1, H, W]; backgrounds [T, 3]."""
        raw = image[:, :3] + (1 - alpha) * backgrounds[..., None, None]
        with _halved(raw):
            change = self.refiner(image, alpha)
        return Drawn(raw, raw + change.float(), alpha)


def splatted(posed: Sequence[Gaussians], cameras: Sequence[Camera]) -> tuple[Tensor, Tensor]:
    """T pictures of one size over black [T, C, H, W] and their alpha [T, 1, H, W]."""
    seen = [render(*of) for of in zip(posed, cameras, strict=True)]
    return torch.stack([s.image for s in seen]), torch.stack([s.alpha for s in seen])[:, None]


def _halved(like: Tensor) -> torch.autocast:
    """bfloat16 on CUDA, as the stages run these networks."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=like.is_cuda)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
