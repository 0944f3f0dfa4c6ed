"""The parametric head M(β, θ, ψ) with offsets (paper Eq. 1): open head and official FLAME in one class.

`assets.load_head()` reads a head npz into `model.HeadModel`; `params.HeadParams` drives it. `bake` and the
modules beside it (`source`, `cut`, ...) build the committed open head; nothing else imports them.
"""
