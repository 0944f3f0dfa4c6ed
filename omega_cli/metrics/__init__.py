"""What a rendering is measured with: pure functions of image pairs, and the networks behind some of them.

Images are [B, 3, H, W] in [0, 1], sRGB as stored; every metric answers one number per pair, [B].

| module | metric | name in tables | better |
|---|---|---|---|
| `psnr` | peak signal to noise ratio, dB | PSNR | high |
| `ssim` | structural similarity, Gaussian 11 / 1.5 | SSIM | high |
| `lpips` | learned perceptual distance on AlexNet or VGG16 | LPIPS-Alex, LPIPS-VGG | low |
| `csim` | cosine of two faces' identity features | CSIM-SFace, CSIM-ArcFace | high |
| `dreamsim` | DreamSim distance (the user's package and weights) | DreamSim | low |
| `driving` | expression, pose and landmark distances of tracked heads | AED, APD, AKD | low |

Networks are loaded by `load_lpips`, `load_csim` and `load_dreamsim`, through the weights registry. A number
of another network than the literature's never goes under the literature's bare name.

For training, `lpips` and `identity` (`load_identity`: csim's networks, run by torch) have gradients.

Masks. `mask` [B, 1, H, W] in [0, 1] restricts a metric to a region, by one rule for all: outside the mask
both pictures are made black, and what is averaged is averaged over the mask alone (a soft mask weighs).
An all-ones mask is no mask; an empty one gives NaN. See `pairs`.
"""
