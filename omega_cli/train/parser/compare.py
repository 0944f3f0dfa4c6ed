"""Our parser beside BiSeNet: `python -m omega_cli.train.parser.compare PHOTOS... -o SHEET.png`.

Both see the crops that the tracker makes. Prints a table of the labels' intersection over union and draws
photo, ours, BiSeNet in a row. Agreement is no truth: BiSeNet errs as well, and says so nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch
from torch import Tensor

from omega_cli.avatar import codecs
from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.track.parsing import Parser
from omega_cli.train.parser import pack, score

COLOURS = (
    (20, 20, 24), (244, 200, 172), (110, 66, 38), (40, 90, 240), (0, 210, 220), (240, 130, 120),
    (250, 240, 60), (250, 160, 100), (140, 10, 60), (220, 30, 40), (250, 40, 130), (196, 140, 108),
    (240, 240, 140), (30, 140, 60), (120, 70, 200), (235, 235, 235),
)  # fmt: skip
"""sRGB of every label, in the order of PARSING_LABELS."""


def coloured(labels: Tensor) -> Tensor:  # [H, W], UNKNOWN where open -> [3, H, W] in [0, 1]
    table = torch.tensor(COLOURS, dtype=torch.float32) / 255
    known = labels != score.UNKNOWN
    picture = table[torch.where(known, labels.long(), 0)]
    return torch.where(known[..., None], picture, 0.5).permute(2, 0, 1)


def sheet(label: score.Labeller, pictures: score.Pictures) -> list[Tensor]:
    """Photo, ours, theirs for each picture."""
    rows = [(image.cpu(), coloured(label(image).cpu()), coloured(truth)) for image, truth in pictures]
    return [picture for row in rows for picture in row]


def lines(table: dict[str, dict[str, float]]) -> list[str]:
    """The table as text: IoU over all pixels, and mean over the pictures that show the label."""
    order = [name for name in (*PARSING_LABELS, *score.GROUPS) if name in table]
    rows = [f"{'':14s} {'all':>6s} {'mean':>6s} pictures"]
    return rows + [
        f"{name:14s} {table[name]['all']:6.3f} {table[name]['mean']:6.3f} {table[name]['pictures']:5.0f}"
        for name in order
    ]


def labeller(parser: Parser) -> score.Labeller:
    return lambda rgb: parser(rgb).argmax(0)


def _of_photos(photos: tuple[Path, ...]) -> score.Pictures:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "compared"
        with scratch.open("wb") as stream:
            pack.pack_compared(pack.photographs(photos), stream)
        return score.photographs(scratch, "cpu")


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The sheet, a PNG.")
@click.option("--weights", "file", type=click.Path(path_type=Path, exists=True), help="Another weight file.")
@click.option("--most", default=40, show_default=True, help="Pictures on the sheet.")
def main(photos: tuple[Path, ...], output: Path, file: Path | None, most: int) -> None:
    """Compare on photographs, folders of them, or one pack (.npz) that `pack --compare` wrote."""
    from omega_cli.track import parsing_checkpoint
    from omega_cli.track.stage import load_parser

    parser = parsing_checkpoint.load_parser(file.read_bytes(), str(file)) if file else load_parser("own")
    packed = len(photos) == 1 and photos[0].suffix == ".npz"
    pictures = score.photographs(photos[0], "cpu") if packed else _of_photos(photos)
    label = labeller(parser)
    sys.stdout.write("\n".join(lines(score.score(label, pictures))) + "\n")
    step = max(1, len(pictures) // most)
    codecs.save_image(output, codecs.contact_sheet(sheet(label, pictures[::step][:most]), columns=6))


if __name__ == "__main__":
    main()
