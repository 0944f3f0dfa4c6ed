"""Whatever people call a picture, decoded to upright 8-bit sRGB plus an optional alpha.

Bytes in, arrays out: `stage.py` reads the file and names it in the errors raised here.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from omega_cli.errors import OmegaError

MAX_SIDE = 4096  # px; beyond it a face gains nothing for a 512 px crop, and memory only suffers  # ours
READABLE = "JPEG, PNG, WebP, TIFF, BMP or GIF"
MIN_TRANSPARENT = 0.005  # share of clearly transparent pixels that makes an alpha channel a matte  # ours


@dataclass(frozen=True)
class Photo:
    """An upright picture: rgb [H, W, 3] uint8 sRGB, alpha [H, W] uint8 or None (None: fully opaque).

    With an alpha, rgb is composited over mid grey. `full_size` is (width, height) before any reduction.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    full_size: tuple[int, int]


def decode_photo(data: bytes, name: str) -> Photo:
    """Decode an encoded picture; `name` is used in messages only.

    EXIF rotation, embedded colour profiles, grey, palette, 16-bit, CMYK and transparency are resolved;
    of an animation the first frame is taken; a picture longer than MAX_SIDE is reduced.
    Raises OmegaError for anything that is not a whole, readable picture.
    """
    if not data:
        raise OmegaError(f"{name} is empty (0 bytes).", "Copy or download the picture again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF blocks and large sizes: handled, not worth a line
            image = Image.open(io.BytesIO(data))
            width, height = image.size
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                image.draft(None, (MAX_SIDE, MAX_SIDE))  # decodes at 1/2, 1/4, 1/8: faster and smaller
            image.load()
            image = _upright(image)
            rgb, alpha = _to_rgb_alpha(image)
    except Image.DecompressionBombError as error:
        raise OmegaError(
            f"{name} is larger than any photo this tool should open.",
            f"Reduce it first; {MAX_SIDE} px on the long side is plenty.",
        ) from error
    except UnidentifiedImageError as error:
        rgb = _decode_with_opencv(data)
        if rgb is None:
            raise OmegaError(
                f"{name} is not a picture that can be read.", f"Give a {READABLE} file."
            ) from error
        return Photo(rgb, None, (rgb.shape[1], rgb.shape[0]))
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        # what Pillow raises for a damaged file differs by format
        raise OmegaError(
            f"{name} is damaged or cut short: {_first_line(error)}.",
            "Copy or download the picture again.",
        ) from error
    if (image.width < image.height) != (width < height) and image.width != image.height:
        width, height = height, width  # EXIF had it lying on its side
    return Photo(rgb, alpha, (width, height))


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:120]


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block must not hide a good picture; its kinds of error are many
        return image


def _to_rgb_alpha(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if has_alpha else None
    if alpha is not None and (alpha < 128).mean() < MIN_TRANSPARENT:
        alpha = None  # an opaque picture saved with an alpha channel
    colour = _to_srgb(image)
    scale = MAX_SIDE / max(colour.size)
    if scale < 1:
        size = (max(1, round(colour.width * scale)), max(1, round(colour.height * scale)))
        colour = colour.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        if alpha is not None:
            alpha = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BOX))
    rgb = np.asarray(colour, dtype=np.uint8)
    if alpha is not None:
        a = alpha[..., None].astype(np.float32) / 255
        rgb = (rgb * a + 128 * (1 - a) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(rgb), alpha


def _to_srgb(image: Image.Image) -> Image.Image:
    """8-bit sRGB of any Pillow mode; the embedded profile is honoured where it is usable."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0)
        top = 1.0 if image.mode == "F" and values.max() <= 1 else 65535.0 if values.max() > 255 else 255.0
        grey = (values.clip(0, top) * (255 / top) + 0.5).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        source = image.convert("RGB") if image.mode == "RGBA" else image
        try:
            converted = ImageCms.profileToProfile(
                source, ImageCms.ImageCmsProfile(io.BytesIO(profile)), _SRGB, outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a profile that does not fit its own picture: plain conversion is the better guess
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")


_SRGB = ImageCms.createProfile("sRGB")


def _decode_with_opencv(data: bytes) -> np.ndarray | None:
    """Formats that Pillow does not know (16-bit RGB TIFF, EXR-like): [H, W, 3] uint8, or None."""
    import cv2

    logging = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # our own error says it better
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        return None
    finally:
        logging.setLogLevel(level)
    if image is None:
        return None
    if image.dtype != np.uint8:
        top = 1.0 if image.dtype.kind == "f" else 255.0 * 257 if image.dtype == np.uint16 else 255.0
        values = np.nan_to_num(image.astype(np.float32), nan=0.0).clip(0, top)
        image = (values * (255 / top) + 0.5).astype(np.uint8)
    scale = MAX_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1])
