"""Every kind of picture comes out upright, 8-bit and sRGB; everything else is one clear error."""

import contextlib
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from omega_cli.errors import OmegaError
from omega_cli.track.image_io import MAX_SIDE, decode_photo, focal_of_exif


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


# --- the focal length in EXIF -------------------------------------------------------------------------

TAG = ExifTags.Base
PHONE = {TAG.FocalLengthIn35mmFilm: 28, TAG.ExifImageWidth: 4000, TAG.ExifImageHeight: 3000}
REFLEX = {
    TAG.FocalLength: IFDRational(50), TAG.FocalPlaneXResolution: IFDRational(5728177, 1000),
    TAG.FocalPlaneResolutionUnit: 2, TAG.ExifImageWidth: 5184, TAG.ExifImageHeight: 3456,
}  # fmt: skip


def shot(tags: dict, size=(640, 480), orientation: int = 1, kind: str = "JPEG") -> bytes:
    """A picture of that size (width, height) with those tags in its EXIF block."""
    exif = Image.Exif()
    exif[TAG.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update(tags)
    return encode(Image.linear_gradient("L").resize(size), kind, exif=exif)


def focal_of(*args, **kwargs) -> float | None:
    return decode_photo(shot(*args, **kwargs), "shot").focal_px


def test_35_mm_equivalents_go_by_the_diagonal():
    """The picture may have been reduced, before or here."""
    diagonal = math.hypot(36, 24)
    assert focal_of(PHONE) == pytest.approx(28 / diagonal * 800)
    assert focal_of(PHONE, (320, 240)) == pytest.approx(28 / diagonal * 400)
    assert focal_of(PHONE, (5600, 4200)) == pytest.approx(28 / diagonal * MAX_SIDE * 5 / 4)
    assert focal_of({TAG.FocalLengthIn35mmFilm: 28}) == focal_of(PHONE)
    wide = {**PHONE, TAG.ExifImageHeight: 2250}
    assert focal_of(wide, (1600, 900)) == pytest.approx(28 / diagonal * math.hypot(1600, 900))


def test_every_format_carries_it():
    expected = focal_of(PHONE)
    assert focal_of(PHONE, kind="PNG") == focal_of(PHONE, kind="WEBP") == expected
    directory = ImageFileDirectory_v2()
    directory[ExifTags.IFD.Exif] = PHONE
    tiff = encode(Image.new("RGB", (640, 480)), "TIFF", tiffinfo=directory)
    assert decode_photo(tiff, "shot.tiff").focal_px == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_a_picture_keeps_its_focal_length(orientation):
    data = shot(PHONE, orientation=orientation)
    photo = decode_photo(data, "turned.jpg")
    assert photo.rgb.shape[:2] == ((480, 640) if orientation < 5 else (640, 480))
    assert photo.focal_px == focal_of(PHONE)
    swapped = PHONE | {TAG.ExifImageWidth: 3000, TAG.ExifImageHeight: 4000}
    assert focal_of(swapped, orientation=orientation) == focal_of(swapped, (480, 640)) == photo.focal_px


def test_without_an_equivalent_the_sensor_tells():
    """50 mm on a sensor 23 mm wide: the field of view is the sensor's, at any size of the picture."""
    expected = 50 / (5184 / 5728.177 * 25.4) * 648
    assert focal_of(REFLEX, (648, 432)) == pytest.approx(expected)
    assert focal_of(REFLEX, (648, 432), orientation=6) == pytest.approx(expected)
    assert focal_of(REFLEX, (1296, 864)) == pytest.approx(2 * expected)
    per_cm = {TAG.FocalPlaneResolutionUnit: 3, TAG.FocalPlaneXResolution: IFDRational(5728177, 2540)}
    assert focal_of(REFLEX | per_cm, (648, 432)) == pytest.approx(expected)
    unsaid = {tag: value for tag, value in REFLEX.items() if tag != TAG.FocalPlaneResolutionUnit}
    assert focal_of(unsaid, (648, 432)) == pytest.approx(expected)  # inches, says EXIF
    both, unknown = (REFLEX | {TAG.FocalLengthIn35mmFilm: value} for value in (80, 0))
    assert focal_of(both, (648, 432)) == pytest.approx(80 / math.hypot(36, 24) * math.hypot(648, 432))
    assert focal_of(unknown, (648, 432)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tags", "size"),
    [
        ({}, (640, 480)),
        (PHONE, (480, 480)),  # cropped
        (PHONE, (640, 360)),
        (PHONE, (640, 470)),
        ({**PHONE, TAG.ExifImageWidth: 480, TAG.ExifImageHeight: 480}, (480, 480)),  # cropped, size rewritten
        ({TAG.FocalLengthIn35mmFilm: 28}, (500, 430)),
        ({**PHONE, TAG.DigitalZoomRatio: IFDRational(2)}, (640, 480)),
        ({**PHONE, TAG.FocalLengthIn35mmFilm: 0}, (640, 480)),
        ({**PHONE, TAG.FocalLengthIn35mmFilm: 7}, (640, 480)),  # 123 degrees from top to bottom
        ({**PHONE, TAG.FocalLengthIn35mmFilm: 300}, (640, 480)),  # 5 degrees
        (REFLEX, (648, 648)),
        ({**REFLEX, TAG.ExifImageWidth: 648, TAG.ExifImageHeight: 432}, (648, 432)),  # a sensor of 3 mm
        ({**REFLEX, TAG.FocalPlaneResolutionUnit: 1}, (648, 432)),
        ({**REFLEX, TAG.FocalPlaneXResolution: IFDRational(0)}, (648, 432)),
        ({**REFLEX, TAG.FocalPlaneXResolution: IFDRational(1, 0)}, (648, 432)),
        ({**REFLEX, TAG.FocalLength: IFDRational(0)}, (648, 432)),
        ({TAG.FocalLength: IFDRational(50)}, (648, 432)),
    ],
)
def test_what_cannot_be_trusted_is_not_used(tags, size):
    assert focal_of(tags, size) is None


def test_digital_zoom_that_is_none_changes_nothing():
    for ratio in (IFDRational(1), IFDRational(0), IFDRational(0, 0)):
        assert focal_of(PHONE | {TAG.DigitalZoomRatio: ratio}) == focal_of(PHONE)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_exif_block_costs_no_picture(data):
    """Any bytes, anywhere in the block: the picture comes out whole, and no impossible focal length."""
    whole = shot(PHONE | REFLEX)
    begin = whole.index(b"Exif") + 6
    length = int.from_bytes(whole[begin - 8 : begin - 6], "big") - 8
    noise = data.draw(st.binary(min_size=1, max_size=length))
    at = begin + data.draw(st.integers(0, length - len(noise)))
    photo = decode_photo(whole[:at] + noise + whole[at + len(noise) :], "damaged.jpg")
    assert sorted(photo.rgb.shape[:2]) == [480, 640]
    if photo.focal_px is not None:
        assert 5 <= math.degrees(2 * math.atan(photo.rgb.shape[0] / 2 / photo.focal_px)) <= 120


ODD = st.one_of(
    st.none(), st.integers(), st.floats(), st.binary(max_size=4), st.text(max_size=4), st.lists(st.floats()),
    st.tuples(st.integers(), st.integers()), st.builds(IFDRational, st.integers(), st.integers(0)),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(PHONE | REFLEX)), ODD), st.integers(1, 9))
def test_odd_values_are_unknown_values(odd, times):
    """Whatever stands in the tags gives no error, and a focal length only in proportion to the picture."""
    found = focal_of_exif(PHONE | REFLEX | odd, (4000, 3000), (640, 480))
    larger = focal_of_exif(PHONE | REFLEX | odd, (4000, 3000), (640 * times, 480 * times))
    assert (found is None) == (larger is None)
    assert found is None or larger == pytest.approx(times * found)
