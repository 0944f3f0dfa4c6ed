"""The avatar as something that moves: mesh, Gaussians and what binds them. Pure maths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import RenderOutput, render
from omega_cli.geometry.camera import Camera
from omega_cli.head.hem import hem_share
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.render.refiner import Refiner, refine_replayed


def soften_hem(bound: BoundGaussians, head: HeadModel) -> BoundGaussians:
    """The same Gaussians, fading to transparent towards the edge where the neck was cut."""
    share = hem_share(bound.canonical.means, bound.vertices, head)
    count = len(bound.uv)
    return replace(
        bound,
        uv=replace(bound.uv, opacities=bound.uv.opacities * share[:count]),
        vertex=replace(bound.vertex, opacities=bound.vertex.opacities * share[count:]),
    )


@dataclass(frozen=True, eq=False)
class Rig:
    """One avatar, ready to be posed frame by frame.

    shaped [V, 3] m: the canonical surface, identity and offsets added once. params: T = 1, the identity
    with the photo's expression in the views' frame (no head rotation, no translation).
    bound: the Gaussians and what ties them to the surface: of 3 colours, or of 32 where there is a refiner.
    """

    head: HeadModel
    params: HeadParams
    shaped: Tensor

    bound: BoundGaussians
    refiner: Refiner | None = None

    @staticmethod
    def build(
        head: HeadModel,
        params: HeadParams,
        offsets: Tensor,  # [V, 3] m
        vertex: Mapping[str, Tensor],
        uv: Mapping[str, Tensor],
        refiner: Refiner | None = None,
    ) -> Rig:
        """From a head, mesh/'s parameters and offsets, and the tensors of gaussians/. Without a refiner their
        first three colours are all that is kept.

        Raises ValueError where the Gaussians and the head do not belong together.
        """
        shaped = head.identity(params.betas, offsets)
        bound = BoundGaussians.from_tensors(uv, vertex, shaped, head.faces)
        if refiner is None:
            bound = replace(bound, uv=bound.uv.first_colours(3), vertex=bound.vertex.first_colours(3))
        return Rig(head, params, shaped, soften_hem(bound, head), refiner)

    def neutral(self) -> HeadParams:
        """The identity at rest: no expression, closed jaw, eyes ahead. T = 1."""
        zeros = HeadParams.zeros(self.head.S, self.head.E, device=self.shaped.device)
        return zeros.replace(betas=self.params.betas, scale=self.params.scale)

    def with_shapes(self, weights: Mapping[str, float]) -> HeadParams:
        """The identity at rest but for the named expression shapes. T = 1."""
        neutral = self.neutral()
        expression = neutral.expression.clone()
        for name, weight in weights.items():
            expression[0, self.head.expression_names.index(name)] = weight
        return neutral.replace(expression=expression)

    def vertices(self, params: HeadParams) -> Tensor:  # [T, V, 3] m
        """Posed surfaces; params' own betas are not read (Eq. 1 with identity and offsets done)."""
        return self.head.animate(self.shaped, params).vertices

    def pose(self, vertices: Tensor) -> Gaussians:
        """World Gaussians carried by one posed surface [V, 3] m."""
        return self.bound.pose(vertices)

    def draw(
        self,
        posed: Gaussians,
        camera: Camera,
        *,
        background: Tensor | None = None,  # [3], default black
        backend: str = "auto",
    ) -> RenderOutput:
        """Posed Gaussians seen by a camera: an image [3, H, W], refined where there is a refiner."""
        if self.refiner is None:
            return render(posed, camera, background=background, backend=backend)
        seen = render(posed, camera, backend=backend)
        return replace(seen, image=refine_replayed(self.refiner, seen.image, seen.alpha, background))
