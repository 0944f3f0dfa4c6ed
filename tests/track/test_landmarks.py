"""Finding faces: geometry of crops, small faces in large pictures, pictures without any."""

import numpy as np
import pytest
from conftest import weight_file
from PIL import Image

from omega_cli.track import landmarks
from omega_cli.track.landmarks import Face, Landmarker, find_faces, ibug_points, square_crop


@pytest.fixture(scope="module")
def landmarker():
    with Landmarker(weight_file("face_landmarker").read_bytes()) as opened:
        yield opened


def face_at(points) -> Face:
    return Face(np.asarray(points, float), np.zeros(len(points)), np.zeros(52), np.eye(3))


@pytest.mark.parametrize("side, size", [(60.0, 96), (200.0, 96), (33.3, 128)])
def test_crop_puts_points_where_it_says(side, size):
    """A bright blob lands at px * scale + shift, enlarged or reduced, to a twentieth of a crop pixel."""
    y, x = np.mgrid[0:240, 0:320] + 0.5
    centre = np.array([150.3, 120.8])
    blob = (255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 4.0**2))).astype(np.float32)
    crop, scale, shift = square_crop(np.dstack([blob] * 3), (148.0, 118.0), side, size)
    cy, cx = np.mgrid[0:size, 0:size] + 0.5
    weight = crop[..., 0].clip(0)
    found = np.array([(cx * weight).sum(), (cy * weight).sum()]) / weight.sum()
    assert crop.shape == (size, size, 3) and scale == size / side
    assert np.abs(found - (centre * scale + shift)).max() < 0.05


def test_crop_beyond_the_edge():
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4)[..., None].repeat(3, 2) * 10
    repeated, _, _ = square_crop(picture, (2.0, 2.0), 8.0, 8)
    mirrored, _, _ = square_crop(picture, (2.0, 2.0), 8.0, 8, mirror=True)
    assert (repeated[:2] == repeated[2]).all() and np.array_equal(repeated[2:6, 2:6], picture)
    assert np.array_equal(mirrored[1], mirrored[3]) and not np.array_equal(mirrored[1], mirrored[2])


def test_tiles_cover_every_pixel_and_every_small_square():
    picture = np.zeros((300, 470, 3), np.uint8)
    for share in landmarks._TILE_SHARES[:3]:
        seen = np.zeros(picture.shape[:2], int)
        side = int(470 * share)
        for x, y, tile in landmarks._tiles(picture, share):
            seen[y : y + tile.shape[0], x : x + tile.shape[1]] += 1
        assert seen.min() >= 1, share
        half = side // 2 - 1  # any square of half a tile lies wholly in some tile
        starts = {axis: landmarks._starts(n, side) for axis, n in (("y", 300), ("x", 470))}
        for axis, n in (("y", 300), ("x", 470)):
            for at in range(0, max(1, n - half)):
                assert any(s <= at and at + half <= max(s + side, n * (n < side)) for s in starts[axis])


def test_moving_a_face_and_its_measures():
    square = face_at([(10, 20), (30, 20), (10, 60), (30, 60)])
    moved = square.moved(2.0, (1.0, -1.0))
    assert moved.box == (21.0, 39.0, 61.0, 119.0) and moved.size == 80.0 and moved.centre == (41.0, 79.0)
    turn = np.array([[0.5**0.5, 0, 0.5**0.5], [0, 1, 0], [-(0.5**0.5), 0, 0.5**0.5]])
    assert Face(square.points, square.depth, square.scores, turn).yaw_deg == pytest.approx(45.0)


def test_the_68_points_are_mirror_images_on_a_symmetric_face(landmarker, astronaut):
    """Point k on one side answers to its iBUG partner on the other; the jaw line is evenly spaced."""
    rgb = np.asarray(Image.open(astronaut).convert("RGB"))
    points, scores = ibug_points(find_faces(rgb, landmarker)[0].points)
    assert points.shape == (68, 2) and (scores[:17] == 0.5).all() and (scores[17:] == 1).all()
    assert (np.diff(points[:17, 0]) > 0).all()  # from the subject's right ear to the left one
    steps = np.linalg.norm(np.diff(points[:17], axis=0), axis=1)
    assert steps[:8].std() < 0.1 * steps.mean() and steps[8:].std() < 0.1 * steps.mean()
    middle = points[27:31, 0].mean()
    partners = [
        *zip(range(8), range(16, 8, -1)),
        *zip(range(17, 22), range(26, 21, -1)),
        (36, 45),
        (39, 42),
        (48, 54),
    ]
    for right, left in partners:
        assert points[right, 0] < middle < points[left, 0]
        assert abs(points[right, 1] - points[left, 1]) < 8


def test_eyes_open_in_a_portrait(landmarker, astronaut):
    rgb = np.asarray(Image.open(astronaut).convert("RGB"))
    face = find_faces(rgb, landmarker)[0]
    assert (face.eye_opening > 0.15).all() and abs(face.yaw_deg) < 8
    assert face.scores[landmarks.SCORES.index("mouthSmileLeft")] > 0.5
    assert face.scores[landmarks.SCORES.index("tongueOut")] == 0


def test_a_small_face_in_a_large_picture_is_found_precisely(landmarker, astronaut):
    """80 px of face in 3000 px of noise: the same points as in the small picture, to 2 % of the face."""
    small = Image.open(astronaut).convert("RGB").resize((380, 380), Image.Resampling.LANCZOS)
    noise = np.random.default_rng(0).integers(90, 150, (2000, 3000, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.paste(small, (2300, 1300))
    alone = find_faces(np.asarray(small), landmarker)
    found = find_faces(np.asarray(picture), landmarker)
    assert len(alone) == len(found) == 1 and 64 < found[0].size < 100
    difference = np.linalg.norm(found[0].points - (2300, 1300) - alone[0].points, axis=1)
    assert difference.mean() < 0.02 * alone[0].size


def test_two_people_largest_first(landmarker, astronaut, grace_hopper):
    picture = Image.new("RGB", (1500, 600), (90, 110, 90))
    picture.paste(Image.open(astronaut).convert("RGB").resize((600, 600)), (0, 0))
    picture.paste(Image.open(grace_hopper).convert("RGB").resize((512, 600)), (900, 0))
    faces = find_faces(np.asarray(picture), landmarker)
    assert len(faces) == 2 and faces[0].size > faces[1].size and faces[0].centre[0] > 900


def test_no_faces_where_there_are_none(landmarker):
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 255, (400, 500, 3), dtype=np.uint8)
    y, x = np.mgrid[0:400, 0:500]
    waves = (127 + 120 * np.sin(x / 17) * np.sin(y / 23)).astype(np.uint8)[..., None].repeat(3, 2)
    for picture in (noise, waves, np.full((300, 300, 3), 128, np.uint8), np.zeros((70, 2000, 3), np.uint8)):
        assert find_faces(picture, landmarker) == []


def test_start_up_is_silent_and_stderr_comes_back(capfd):
    with Landmarker(weight_file("face_landmarker").read_bytes()) as opened:
        opened.detect(np.zeros((64, 64, 3), np.uint8))
        import sys

        print("still here", file=sys.stderr)
    assert capfd.readouterr().err == "still here\n"
