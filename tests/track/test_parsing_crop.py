"""Parser wiring and label tidying; the window of the aligned input."""

import numpy as np
import torch

from omega_cli.avatar import layout
from omega_cli.track import crop, parsing, parsing_bisenet
from omega_cli.track.landmarks import Face
from omega_cli.track.observe import SIZE


def test_labels_are_those_of_the_contract():
    for number, name in enumerate(layout.PARSING_LABELS):
        assert getattr(parsing, name.upper()) == number
    assert sorted(set(parsing_bisenet._OUR_LABEL)) == list(range(parsing.LABELS))


def test_folding_norms_changes_no_number_and_every_pixel_is_a_distribution():
    torch.manual_seed(0)
    plain = parsing_bisenet.BiSeNet().eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    state["conv_out16.training_only"] = torch.zeros(1)
    folded = parsing_bisenet.BiSeNet.from_state(state)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    rgb = torch.rand(3, 64, 96)
    before, after = plain(rgb), folded(rgb)
    assert before.shape == (parsing.LABELS, 64, 96)
    assert torch.allclose(before, after, atol=1e-5)
    assert torch.allclose(after.sum(0), torch.ones(64, 96), atol=1e-5)


def a_face(x0=900.0, y0=700.0, width=170.0, height=200.0, yaw_deg=0.0) -> Face:
    points = np.array([(x0, y0), (x0 + width, y0 + height)] * 239)
    a = np.radians(yaw_deg)
    rotation = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return Face(points, np.zeros(478), np.zeros(52), rotation)


def test_window_shows_head_and_neck_and_follows_the_skull():
    face = a_face()
    (x, y), side = crop.window(face, crop.SPAN)
    assert x == 985.0 and side == crop.SPAN * 200
    assert y - side / 2 < 700 - 0.5 * 200 and y + side / 2 > 900 + 0.4 * 200
    (left, _), _ = crop.window(a_face(yaw_deg=30), crop.SPAN)  # turned to image right: the skull is at left
    (right, _), _ = crop.window(a_face(yaw_deg=-30), crop.SPAN)
    assert left < x < right


def test_cut_marks_what_lies_beyond_the_photo_and_its_frame():
    rgb = np.full((1000, 1200, 3), 120, np.uint8)
    rgb[:4] = 0  # a black frame, as some pictures are saved with
    inside = crop.cut(rgb, a_face(500, 400))
    assert inside.photo.all() and inside.rgb.shape == (SIZE, SIZE, 3)
    edge = crop.cut(rgb, a_face(10, 10))
    x = (np.arange(SIZE) + 0.5 - edge.shift[0]) / edge.scale
    y = (np.arange(SIZE) + 0.5 - edge.shift[1]) / edge.scale
    assert np.array_equal(edge.photo, ((y >= 5) & (y <= 1000))[:, None] & (x >= 0)[None])
    assert crop.picture_box(np.zeros((100, 100, 3), np.uint8)) == (0, 0, 100, 100)  # all dark: no frame


def test_alpha_goes_through_the_same_window():
    values = np.random.default_rng(0).integers(0, 255, (600, 800), dtype=np.uint8)
    cut = crop.cut(np.dstack([values] * 3), a_face(300, 200))
    assert np.array_equal(crop.crop_like(values, cut)[cut.photo], cut.rgb[..., 0][cut.photo])


def test_hair_at_the_edge_asks_for_more_room():
    label_map, photo = np.zeros((SIZE, SIZE), int), np.ones((SIZE, SIZE), bool)
    label_map[40:300, 150:350] = parsing.HAIR
    assert not crop.hair_is_cut_off(label_map, photo)
    label_map[:60, 200:300] = parsing.HAT
    assert crop.hair_is_cut_off(label_map, photo)
    photo[:20] = False  # the photo itself ends there: more room would show nothing
    assert not crop.hair_is_cut_off(label_map, photo)
    flag = np.zeros((SIZE, SIZE), int)
    flag[100:300, 150:350], flag[60:100, 150:350] = parsing.SKIN, parsing.HAIR
    flag[:50, 200:300] = parsing.HAIR  # hangs together with no face
    assert not crop.hair_is_cut_off(flag, np.ones((SIZE, SIZE), bool))
    flag[50:60, 200:300] = parsing.HAIR
    assert crop.hair_is_cut_off(flag, np.ones((SIZE, SIZE), bool))
    long = np.zeros((SIZE, SIZE), int)
    long[300:, :] = parsing.HAIR  # long hair may leave at the bottom
    assert not crop.hair_is_cut_off(long, np.ones((SIZE, SIZE), bool))


def test_tidy_labels():
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    label_map[100:400, 100:400] = parsing.SKIN
    label_map[50:150, 100:400] = parsing.HAIR
    label_map[60:90, 200:240] = parsing.HAT  # flecks of hat on a head of hair
    label_map[300:305, 300:306] = parsing.CLOTH  # a speck
    label_map[200:204, 200:206] = parsing.EYES  # small by nature
    alpha = np.zeros((SIZE, SIZE), np.float32)
    alpha[40:400, 100:400] = 1
    tidy = crop.tidy_labels(label_map, alpha)
    assert not (tidy == parsing.HAT).any() and (tidy[60:90, 200:240] == parsing.HAIR).all()
    assert (tidy[300:305, 300:306] == parsing.SKIN).all() and (tidy[200:204, 200:206] == parsing.EYES).all()
    assert (tidy[40:50, 100:400] == parsing.HAIR).all()  # the matte knows the head goes on
    assert (tidy[alpha < 0.5] == parsing.BACKGROUND).all() and (tidy[alpha > 0.5] != 0).all()
