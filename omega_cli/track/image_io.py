"""Whatever people call a picture, decoded to upright 8-bit sRGB plus an optional alpha.

Bytes in, arrays out: `stage.py` reads the file and names it in the errors raised here.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from omega_cli.errors import OmegaError

MAX_SIDE = 4096  # px; beyond it a face gains nothing for a 512 px crop, and memory only suffers  # ours
READABLE = "JPEG, PNG, WebP, TIFF, BMP or GIF"
MIN_TRANSPARENT = 0.005  # share of clearly transparent pixels that makes an alpha channel a matte  # ours

_FULL_FRAME = math.hypot(36, 24)  # mm: the diagonal that 35 mm equivalents refer to (CIPA DCG-001)
_UNITS = {2.0: 25.4, 3.0: 10.0}  # mm, of EXIF's FocalPlaneResolutionUnit
_SHAPES = (4 / 3, 3 / 2, 16 / 9)  # that cameras record: many editors crop and write the new size  # ours
_SENSORS = (36.3, 22.9, 17.3, 13.2)  # mm wide: many reduce and leave px per mm as they were  # ours
_FIELD_DEG = (5.0, 120.0)  # of view, from top to bottom, that photos of people have  # ours
_MAX_ZOOM = 1.1  # digital zoom: some cameras count it in, some do not  # ours


@dataclass(frozen=True)
class Photo:
    """An upright picture: rgb [H, W, 3] uint8 sRGB, alpha [H, W] uint8 or None (None: fully opaque).

    With an alpha, rgb is composited over mid grey. `full_size` is (width, height) before any reduction.
    `focal_px` is the camera's focal length in px of rgb, where the file tells one that can be trusted.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    full_size: tuple[int, int]
    focal_px: float | None = None


def decode_photo(data: bytes, name: str) -> Photo:
    """Decode an encoded picture; `name` is used in messages only.

    EXIF rotation, embedded colour profiles, grey, palette, 16-bit, CMYK and transparency are resolved;
    of an animation the first frame is taken; a picture longer than MAX_SIDE is reduced; EXIF's focal length
    is read where there is one.
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
            tags = _exif(image)
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
    focal = focal_of_exif(tags, (width, height), (rgb.shape[1], rgb.shape[0]))
    return Photo(rgb, alpha, (width, height), focal)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:120]


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block must not hide a good picture; its kinds of error are many
        return image


def _exif(image: Image.Image) -> dict[int, Any]:
    """What the camera wrote about the shot; empty where that is missing or broken."""
    try:
        return dict(image.getexif().get_ifd(ExifTags.IFD.Exif))
    except Exception:  # as in _upright
        return {}


def focal_of_exif(tags: Mapping[int, Any], stored: tuple[int, int], size: tuple[int, int]) -> float | None:
    """Focal length, px, that the EXIF tags of an upright picture of `size` (width, height) tell.

    stored: width and height in the file, either way up. None where nothing is told and where it is not to be
    trusted: the picture was cropped after the shot, digital zoom leaves open what the numbers mean, no camera
    sees so much or so little.
    """

    def told(tag: ExifTags.Base) -> float:
        return _positive(tags.get(tag))

    shot = sorted((told(ExifTags.Base.ExifImageWidth), told(ExifTags.Base.ExifImageHeight)))
    shape = max(stored) / min(stored)
    if shot[0] and not math.isclose(shot[1] / shot[0], shape, rel_tol=0.01):
        return None
    if not any(math.isclose(shape, usual, rel_tol=0.01) for usual in _SHAPES):
        return None
    if told(ExifTags.Base.DigitalZoomRatio) > _MAX_ZOOM:
        return None
    focal = told(ExifTags.Base.FocalLengthIn35mmFilm) * math.hypot(*size) / _FULL_FRAME
    if not focal and shot[0]:
        unit = _UNITS.get(told(ExifTags.Base.FocalPlaneResolutionUnit) or 2.0, math.inf)
        per_mm = told(ExifTags.Base.FocalPlaneXResolution) / unit
        if any(math.isclose(shot[1], wide * per_mm, rel_tol=0.04) for wide in _SENSORS):
            focal = told(ExifTags.Base.FocalLength) * per_mm * max(size) / shot[1]
    field = math.degrees(2 * math.atan2(size[1] / 2, focal))
    return focal if _FIELD_DEG[0] <= field <= _FIELD_DEG[1] else None


def _positive(value: Any) -> float:
    """The value of an EXIF tag; 0, which is EXIF's own "unknown", for anything but a positive number."""
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return 0.0
    return number if 0 < number < math.inf else 0.0


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
