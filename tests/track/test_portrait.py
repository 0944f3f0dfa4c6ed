"""Photos from end to end: landmarks met, plausible people, choices among faces, clear refusals."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from conftest import weight_file
from PIL import ExifTags, Image

from omega_cli.errors import OmegaError
from omega_cli.head.assets import load_head
from omega_cli.track import parsing as labels
from omega_cli.track import portrait, stage
from omega_cli.track.align68 import load_aligner
from omega_cli.track.config import TrackConfig
from omega_cli.track.image_io import Photo, decode_photo
from omega_cli.track.landmarks import Face, Landmarker


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def networks():
    import cv2

    for name in stage.photo_networks(TrackConfig()):
        weight_file(name)
    parser = stage.load_parser(TrackConfig().parser)
    saliency = cv2.dnn.readNetFromONNX(np.frombuffer(weight_file("u2netp").read_bytes(), np.uint8))
    with Landmarker(weight_file("face_landmarker").read_bytes()) as landmarker:
        yield portrait.Networks(landmarker, parser, saliency)


def photo_of(path) -> Photo:
    return decode_photo(path.read_bytes(), path.name)


@pytest.fixture(scope="module")
def tracked(astronaut, head, networks):
    return portrait.track_photo(photo_of(astronaut), head, networks, name="astronaut.png")


def test_landmarks_are_met_by_a_plausible_person(tracked, head):
    assert tracked.metrics["reprojection_percent"] < 1.0
    assert tracked.params.betas.abs().max() < 3 and abs(tracked.metrics["yaw_deg"]) < 6
    smile = [
        tracked.params.expression[0, head.expression_names.index(f"mouthSmile{s}")] for s in ("Left", "Right")
    ]
    blink = [
        tracked.params.expression[0, head.expression_names.index(f"eyeBlink{s}")] for s in ("Left", "Right")
    ]
    assert min(smile) > 0.3 and max(blink) < 0.2


def test_params_and_camera_reproduce_the_projection(tracked, head):
    """What is written to flame.npz and cameras.json gives the landmarks back, without the solver."""
    vertices = head(tracked.params).vertices[0]
    pixels, depth = tracked.camera.project(head.landmark_points(vertices, "mediapipe478"))
    assert np.abs(pixels.numpy() - tracked.projected).max() < 0.01
    assert depth.min() > 0.3
    x0, y0 = tracked.points478.min(0)
    x1, y1 = tracked.points478.max(0)
    assert 100 < x0 < x1 < 412 and 100 < y0 < y1 < 430  # head, hair and neck have room


def test_matte_and_parsing_agree(tracked):
    alpha, parts = tracked.image[3], tracked.label_map
    assert ((alpha > 0.5) == (parts != labels.BACKGROUND)).float().mean() > 0.999
    assert alpha[:8].max() == 0 and alpha[300, 240] == 1
    for label in (labels.SKIN, labels.HAIR, labels.NOSE, labels.UPPER_LIP, labels.MOUTH_INSIDE):
        assert (parts == label).sum() > 100
    eye = tracked.points68[36:48].mean(0)
    assert (parts[int(eye[1]) - 60 : int(eye[1]) - 30, int(eye[0])] == labels.HAIR).float().mean() < 1


def test_a_cut_out_is_taken_at_its_word(astronaut, head, networks, tracked):
    photo = photo_of(astronaut)
    scale, shift = tracked.crop["scale"], tracked.crop["shift"]
    y, x = np.mgrid[0:512, 0:512] + 0.5
    at = [(v * scale + s).astype(int).clip(0, 511) for v, s in ((x, shift[0]), (y, shift[1]))]
    alpha = (tracked.image[3].numpy()[at[1], at[0]] > 0.5) * 255
    cut = Photo(photo.rgb, alpha.astype(np.uint8), photo.full_size)
    again = portrait.track_photo(cut, head, networks)
    assert (again.image[3] - tracked.image[3]).abs().mean() < 0.02


def test_the_lens_is_the_one_in_the_exif(astronaut, head, networks):
    """The astronaut as of a phone's 35 mm equivalent of 50 mm: px of the photo become px of the crop."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 50
    Image.open(astronaut).convert("RGB").crop((0, 0, 512, 384)).save(buffer, "JPEG", quality=95, exif=exif)
    photo = decode_photo(buffer.getvalue(), "shot.jpg")
    told = portrait.track_photo(photo, head, networks, name="shot.jpg", lens="found")
    focal = 50 / np.hypot(36, 24) * np.hypot(512, 384) * told.crop["scale"]
    assert (told.metrics["focal_px"], told.metrics["focal_from"]) == (round(focal, 1), "exif")
    assert float(told.camera.K[0, 0]) == pytest.approx(focal, rel=1e-6)
    assert float(told.camera.viewmat[2, 3]) == pytest.approx(focal / 1280, rel=1e-6)
    assert told.notes == ["The camera's focal length is taken from the EXIF of shot.jpg."]
    sparse = dataclasses.replace(networks, aligner=lambda rgb, box: (told.points68, np.ones(68)))
    from68 = portrait.track_photo(photo, head, sparse, lens="found")
    assert (from68.camera.K == told.camera.K).all() and from68.metrics["focal_from"] == "exif"
    bare = dataclasses.replace(photo, focal_px=None)
    found = portrait.track_photo(bare, head, networks, lens="found")
    assert found.metrics["focal_from"] == "landmarks" and found.metrics["focal_px"] != round(focal, 1)
    auto = portrait.track_photo(photo, head, networks, lens="auto")
    assert torch.equal(auto.camera.K, told.camera.K) and auto.metrics["focal_from"] == "exif"
    assert portrait.track_photo(bare, head, networks, lens="auto").metrics["focal_from"] == "usual"
    usual = portrait.track_photo(photo, head, networks)
    assert (usual.metrics["focal_px"], usual.metrics["focal_from"]) == (1280, "usual")
    assert found.notes == usual.notes == []


def test_choosing_among_two(astronaut, grace_hopper, head, networks):
    picture = Image.new("RGB", (1300, 600), (90, 110, 90))
    picture.paste(Image.open(astronaut).convert("RGB").resize((600, 600)), (0, 0))
    picture.paste(Image.open(grace_hopper).convert("RGB").resize((512, 600)), (700, 0))
    photo = Photo(np.asarray(picture), None, picture.size)
    largest = portrait.track_photo(photo, head, networks, name="two.png")
    assert "2 faces in two.png: the largest" in largest.notes[0]
    assert largest.crop["face_box"][0] > 700
    assert (largest.label_map == labels.HAT).sum() > 2000
    other = portrait.track_photo(photo, head, networks, face_index=1)
    assert other.crop["face_box"][2] < 600
    with pytest.raises(OmegaError, match=r"--face 2 .* shows 2 faces"):
        portrait.track_photo(photo, head, networks, face_index=2)


def test_refusals(astronaut, head, networks):
    def refused(photo: Photo) -> str:
        with pytest.raises(OmegaError) as error:
            portrait.track_photo(photo, head, networks, name="p.png")
        assert error.value.hint and len(error.value.message) < 120
        return error.value.message

    plain = Photo(np.full((300, 300, 3), 128, np.uint8), None, (300, 300))
    assert refused(plain) == "No face was found in p.png."
    small = Image.open(astronaut).convert("RGB").resize((290, 290))
    assert "px high; at least 64" in refused(Photo(np.asarray(small), None, small.size))


def test_a_profile_is_refused():
    face = Face(np.random.default_rng(0).uniform(0, 200, (478, 2)), np.zeros(478), np.zeros(52),
                np.array([[0.34, 0, 0.94], [0, 1, 0], [-0.94, 0, 0.34]]))  # fmt: skip
    with pytest.raises(OmegaError, match="turned 70° to the side"):
        portrait.choose_face([face], 0, "p.png")


def test_what_the_parser_calls_no_face_is_none():
    """A landmarker's mirage: points, but no skin, eyes or mouth under them."""
    face = Face(np.random.default_rng(0).uniform(150, 350, (478, 2)), np.zeros(478), np.zeros(52), np.eye(3))
    with pytest.raises(OmegaError, match="No face"):
        portrait._require_face(np.full((512, 512), labels.CLOTH), face, "p.png")
    portrait._require_face(np.full((512, 512), labels.SKIN), face, "p.png")


def test_eyes_shut_in_a_photo_are_shut_in_the_head(shared_data, head, networks):
    """A frame of the shared clip in which the eyes are closed (seen by eye)."""
    av = pytest.importorskip("av")
    with av.open(str(shared_data / "drivers" / "d18.mp4")) as container:
        frames = [
            f.to_ndarray(format="rgb24") for _, f in zip(range(96), container.decode(video=0), strict=False)
        ]
    index = [head.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    for number, closed in ((95, True), (30, False)):
        rgb = np.ascontiguousarray(frames[number])
        found = portrait.track_photo(Photo(rgb, None, (480, 480)), head, networks)
        blink = found.params.expression[0, index]
        assert (blink > 0.9).all() if closed else (blink < 0.2).all()


def test_landmarks_are_met_on_unseen_faces(shared_data, head, networks):
    """A few of the shared photos that nothing was tuned on: all within 1.2 % of the face box."""
    files = sorted((shared_data / "sfhq_synthetic_faces").glob("*.jpg"))[13::160]
    files += sorted((shared_data / "london_faces" / "smiling_front").glob("*.jpg"))[11::50]
    errors = [
        portrait.track_photo(photo_of(f), head, networks).metrics["reprojection_percent"] for f in files
    ]
    assert len(errors) >= 4 and max(errors) < 1.2 and np.mean(errors) < 0.8


def test_the_other_backend_says_what_it_needs():
    try:
        import face_alignment  # noqa: F401
    except ImportError:
        with pytest.raises(OmegaError, match="needs a package"):
            load_aligner()
        return
    with pytest.raises(OmegaError, match="needs its weights"):
        load_aligner()


def test_68_points_alone_place_the_head(tracked, head, networks, astronaut):
    """The second backend's path, fed with the 68 points of the first: the same head in the same place."""

    def aligner(rgb: np.ndarray, box) -> tuple[np.ndarray, np.ndarray]:
        return tracked.points68, np.ones(68)

    second = portrait.Networks(networks.landmarker, networks.parser, networks.saliency, aligner)
    found = portrait.track_photo(photo_of(astronaut), head, second)
    assert found.projected.shape == (68, 2) and found.metrics["reprojection_percent"] < 1.5
    both = [head(t.params).vertices[0] for t in (found, tracked)]
    pixels = [tracked.camera.project(v)[0][head.regions["face"]] for v in both]
    assert (pixels[0] - pixels[1]).norm(dim=1).mean() < 6  # px of 512


def test_decoded_bytes_or_file_are_the_same(astronaut):
    image = Image.open(astronaut)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert np.array_equal(decode_photo(buffer.getvalue(), "a").rgb, photo_of(astronaut).rgb)


def test_the_lens_is_found_where_it_is_asked_for(astronaut, head, networks):
    usual = portrait.track_photo(photo_of(astronaut), head, networks, name="astronaut.png")
    found = portrait.track_photo(photo_of(astronaut), head, networks, name="astronaut.png", lens="found")
    assert (usual.camera.K[0, 0], usual.metrics["focal_px"]) == (1280, 1280)
    focal = float(found.camera.K[0, 0])
    assert 1300 < focal < 2600  # a studio portrait
    assert found.metrics["focal_px"] == pytest.approx(focal, abs=0.1)
    assert float(found.camera.viewmat[2, 3]) == pytest.approx(focal / 1280, rel=1e-5)
    assert found.metrics["reprojection_px"] < usual.metrics["reprojection_px"] + 0.05
