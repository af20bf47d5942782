"The site's logo and the picture that others show of a link to it, both from README's drawn faces (docs/conf.py)."
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tools.notebooks import PACKAGE, ROOT

FACES = ROOT / "docs" / "sketch_faces.png"
TILE = 134, 164  # pixels of a face, with its border
CHOSEN = 6, 0  # the column and row of the face in the logo
BACKGROUND, INK = "#131416", "#ffffff"


def logo(faces):
    "A face in a circle, 96 pixels wide: 4 kB, which every page loads."
    x, y = (side * place for side, place in zip(TILE, CHOSEN))
    face = faces.crop((x + 12, y + 22, x + 122, y + 132)).resize((96, 96), Image.Resampling.LANCZOS)
    circle = Image.new("L", (512, 512))
    ImageDraw.Draw(circle).ellipse((0, 0, 511, 511), fill=255)
    face.putalpha(circle.resize(face.size, Image.Resampling.LANCZOS))
    return face.quantize(128, method=Image.Quantize.FASTOCTREE)


def preview(faces):
    "The name, what one does with it, and the faces: 1200×630, as link previews are."
    paper = Image.new("RGB", (1200, 630), BACKGROUND)
    paper.paste(faces.resize((1200, round(faces.height * 1200 / faces.width))), (0, 0))
    write = ImageDraw.Draw(paper)
    write.text((48, 400), PACKAGE, INK, ImageFont.load_default(80))
    write.text((48, 510), "Forty questions about a face:", INK, ImageFont.load_default(40))
    write.text((48, 560), "does your change to the network really help?", INK, ImageFont.load_default(40))
    return paper.quantize(128)


def write_pictures(folder: Path):
    "Both, as logo.png and preview.png."
    with Image.open(FACES) as faces:
        faces = faces.convert("RGB")
    logo(faces).save(folder / "logo.png", optimize=True)
    preview(faces).save(folder / "preview.png", optimize=True)
