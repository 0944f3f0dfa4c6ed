"""Every kind of picture comes out upright, 8-bit and sRGB; everything else is one clear error."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omega_cli.errors import OmegaError
from omega_cli.track.image_io import MAX_SIDE, decode_photo


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """An asymmetric smooth picture [48, 64, 3]: any turn or flip changes it."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=2).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_every_orientation_upright(picture, orientation):
    undo = {
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
        6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270",
    }[orientation]  # fmt: skip
    stored = Image.fromarray(picture)
    stored = stored if undo is None else stored.transpose(Image.Transpose[undo])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encode(stored, "PNG", exif=exif), "p.png")
    assert np.array_equal(photo.rgb, picture)
    assert photo.full_size == (64, 48)


def test_modes_give_the_same_picture(picture):
    colour, grey = Image.fromarray(picture), Image.fromarray(picture).convert("L")
    grey3 = np.asarray(grey.convert("RGB"))
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    cases = {
        "rgb": (encode(colour, "PNG"), picture),
        "bmp": (encode(colour, "BMP"), picture),
        "webp": (encode(colour, "WEBP", lossless=True), picture),
        "grey": (encode(grey, "PNG"), grey3),
        "grey16": (encode(sixteen, "PNG"), grey3),
        "grey16 tiff": (encode(sixteen, "TIFF"), grey3),
        "float tiff": (encode(Image.fromarray(np.asarray(grey, np.float32) / 255), "TIFF"), grey3),
        "bilevel": (encode(grey.point(lambda v: 255 * (v > 90)).convert("1"), "PNG"),
                    255 * (grey3 > 90).astype(np.uint8)),
        "cmyk": (encode(colour.convert("CMYK"), "TIFF"), picture),
        "cmyk jpeg": (encode(colour.convert("CMYK"), "JPEG", quality=98, subsampling=0), picture),
    }  # fmt: skip
    for name, (data, expected) in cases.items():
        photo = decode_photo(data, name)
        assert photo.rgb.dtype == np.uint8 and photo.alpha is None, name
        assert np.abs(photo.rgb.astype(int) - expected).mean() < (3 if "jpeg" in name else 1.01), name


def test_sixteen_bit_colour(picture):
    cv2 = pytest.importorskip("cv2")
    for kind in (".png", ".tif"):
        _, data = cv2.imencode(kind, picture[..., ::-1].astype(np.uint16) * 257)
        assert np.abs(decode_photo(data.tobytes(), kind).rgb.astype(int) - picture).max() <= 1, kind


def test_an_animation_gives_its_first_frame(picture):
    first = Image.fromarray(picture).quantize(64)
    others = [Image.fromarray(255 - picture).quantize(64)] * 3
    photo = decode_photo(encode(first, "GIF", save_all=True, append_images=others), "a.gif")
    assert np.array_equal(photo.rgb, np.asarray(first.convert("RGB")))


def test_transparency_is_a_matte_and_an_opaque_alpha_is_not(picture):
    rgba = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    assert decode_photo(encode(Image.fromarray(rgba), "PNG"), "o.png").alpha is None
    rgba[:, :20, 3] = 0
    photo = decode_photo(encode(Image.fromarray(rgba), "PNG"), "t.png")
    assert np.array_equal(photo.alpha, rgba[..., 3])
    assert (photo.rgb[:, :20] == 128).all() and np.array_equal(photo.rgb[:, 20:], picture[:, 20:])


def test_a_profile_is_honoured():
    from PIL import ImageCms

    lab_like = ImageCms.createProfile("sRGB")
    data = encode(Image.new("RGB", (8, 8), (200, 30, 60)), "PNG",
                  icc_profile=ImageCms.ImageCmsProfile(lab_like).tobytes())  # fmt: skip
    assert np.abs(decode_photo(data, "icc.png").rgb.astype(int) - (200, 30, 60)).max() <= 2
    broken = encode(Image.new("RGB", (8, 8), (200, 30, 60)), "PNG", icc_profile=b"no profile")
    assert (decode_photo(broken, "broken.png").rgb == (200, 30, 60)).all()


def test_large_pictures_are_reduced():
    photo = decode_photo(encode(Image.new("RGB", (MAX_SIDE + 1000, 500), "red"), "PNG"), "wide.png")
    assert max(photo.rgb.shape) == MAX_SIDE and photo.full_size == (MAX_SIDE + 1000, 500)


def test_broken_files_say_so(picture):
    whole = encode(Image.fromarray(picture), "JPEG")
    with pytest.raises(OmegaError, match="empty"):
        decode_photo(b"", "zero.jpg")
    with pytest.raises(OmegaError, match="not a picture"):
        decode_photo(b"hello, world", "text.jpg")
    with pytest.raises(OmegaError, match="cut short"):
        decode_photo(whole[: len(whole) * 2 // 3], "half.jpg")
    png = encode(Image.fromarray(picture), "PNG")
    with pytest.raises(OmegaError, match=r"half\.png"):
        decode_photo(png[: len(png) // 2], "half.png")


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]),
    st.integers(0, 400),
)
def test_no_bytes_escape_as_another_error(noise, kind, at):
    """Damage anywhere gives a picture or an OmegaError, never a traceback."""
    data = bytearray(encode(Image.new("RGB", (16, 16), "green"), kind))
    data[at : at + len(noise)] = noise
    with contextlib.suppress(OmegaError):
        assert decode_photo(bytes(data), "noise").rgb.ndim == 3
