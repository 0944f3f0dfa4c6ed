"""OmegaModel: the learned parts of an avatar together, for training and for whoever wants tensors, not files.

The same functions as the stages', in the same order: encode, splat, fuse, decode, bind, pose, draw, refine.
Cut at the stages' seams: encoder (splat-uv), decoder (decode), refiner (render).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from omega_cli.decode.analytic import Decoded, decode_surface
from omega_cli.decode.checkpoint import DECODER
from omega_cli.decode.learned import learned_change, refine_decoded
from omega_cli.decode.network import AvatarDecoder, DecoderConfig, UVLayout
from omega_cli.decode.residual import Change
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import Camera
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.render.checkpoint import REFINER
from omega_cli.render.refiner import Refiner, RefinerConfig
from omega_cli.render.rig import soften_hem
from omega_cli.splat_uv.canonical import UVMap
from omega_cli.splat_uv.checkpoint import ENCODER, make_encoder
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.dino import DinoConfig
from omega_cli.splat_uv.encoder import EncoderConfig
from omega_cli.splat_uv.features import CHANNELS
from omega_cli.splat_uv.stage import Photo, SplatHead, Views, splat_posed


@dataclass(frozen=True)
class OmegaConfig:
    """Sizes of the three networks; those of the decoder that follow from the head and the encoder are set."""

    encoder: EncoderConfig | DinoConfig = field(default_factory=EncoderConfig)
    channels: tuple[int, ...] = (32, 64, 96, 128)  # of the decoder's U-Net
    refiner: RefinerConfig = field(default_factory=RefinerConfig)


@dataclass(frozen=True)
class Drawn:
    """raw, refined [3, H, W] before clamping, over `background`; alpha [1, H, W]."""

    raw: Tensor
    refined: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Avatar:
    """bound: the Gaussians on the canonical mesh; shaped [V, 3] m: that mesh before expression and pose;
    changes: what the network added at texels and vertices (for the regularisation); params: T = 1."""

    bound: BoundGaussians
    shaped: Tensor
    changes: tuple[Change, Change]
    params: HeadParams


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

    def canonical_map(
        self, params: HeadParams, offsets: Tensor, views: Views, photo: Photo | None
    ) -> tuple[UVMap, Tensor]:
        """Splat-uv: the map of filter bank and learned features, and the identity vector."""
        inputs = SplatHead.of(self.head), params, offsets, views, photo, self.splat
        uv_map, identity, _ = splat_posed(*inputs, self.encoder)
        return uv_map, identity

    @torch.no_grad()
    def analytic(self, params: HeadParams, offsets: Tensor, uv_map: UVMap) -> Decoded:
        """Decode's analytic part, which depends on the colours alone: nothing learned is in it."""
        vertices = self.head.canonical(params.betas, offsets)
        centres = (self.head.J_regressor @ vertices)[3:5]
        return decode_surface(self.head, vertices, centres, uv_map.features.detach(), uv_map.weight.detach())

    def avatar(
        self, params: HeadParams, offsets: Tensor, uv_map: UVMap, identity: Tensor, base: Decoded
    ) -> Avatar:
        """Decode: both branches, bound to the canonical mesh."""
        shaped = self.head.canonical(params.betas, offsets)
        with _halved(base.texture):
            changes = learned_change(
                self.decoder, base, self.layout, uv_map.features, uv_map.weight, identity
            )
        made = refine_decoded(base, *changes, shaped, self.head.faces)
        bound = BoundGaussians.bind(
            made.uv, made.face_index, made.barycentric, made.vertex, shaped, self.head.faces
        )
        return Avatar(soften_hem(bound, self.head), shaped, changes, params)

    def draw(self, avatar: Avatar, frame: HeadParams, camera: Camera, background: Tensor) -> Drawn:
        """Render: pose by one frame (T = 1), splat 32 channels, refine. background [3]."""
        vertices = self.head.animate(avatar.shaped, frame).vertices[0]
        posed = avatar.bound.pose(vertices)
        seen = render(posed, camera)
        alpha = seen.alpha[None]
        raw = seen.image[:3] + (1 - alpha) * background[:, None, None]
        with _halved(raw):
            change = self.refiner(seen.image[None], alpha[None])[0]
        return Drawn(raw, raw + change.float(), alpha)


def _halved(like: Tensor) -> torch.autocast:
    """bfloat16 on CUDA, as the stages run these networks."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=like.is_cuda)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
