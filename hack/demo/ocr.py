"""What stands around the PP-OCRv4 recognition model: a picture goes in, text comes out. Pure.

The model takes one line of text as `x`, float32 (n, 3, 48, w), and answers with probabilities
(n, t, classes): class 0 is CTC's blank, the last one is the space, those between are the lines of the
dictionary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

HEIGHT = 48
WIDTH = 320  # that the model was trained with
WIDEST = 1280


@dataclass(frozen=True, slots=True)
class Reading:
    """Text, and the mean probability of its characters (0 when there is none)."""

    text: str
    confidence: float


def draw(text: str, *, size: int = 32) -> Image.Image:
    """A picture of one line of text, black on white, as wide as the text needs."""
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(text)
    margin = size // 4
    picture = Image.new("RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), "white")
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, fill="black", font=font)
    return picture


def preprocess(picture: Image.Image, *, least: int = WIDTH) -> NDArray[np.float32]:
    """(1, 3, 48, w): scaled to the height, padded with zeros on the right, values in [-1, 1], BGR.

    w is `least`, or more for a longer line, up to 1280; a line longer than that is squeezed to fit.
    """
    width = max(1, min(WIDEST, round(HEIGHT * picture.width / picture.height)))
    scaled = picture.convert("RGB").resize((width, HEIGHT), Image.Resampling.BILINEAR)
    pixels = np.asarray(scaled, dtype=np.float32)[:, :, ::-1]
    tensor = np.zeros((1, 3, HEIGHT, max(least, width)), dtype=np.float32)
    tensor[0, :, :, :width] = (pixels.transpose(2, 0, 1) / 255.0 - 0.5) / 0.5
    return tensor


def characters(dictionary: str) -> list[str]:
    """The characters by class, from the model's dictionary file (one character a line)."""
    return ["", *dictionary.splitlines(), " "]


def decode(probabilities: NDArray[np.float32], alphabet: Sequence[str]) -> Reading:
    """CTC, best path: repeats collapse, blanks vanish. `probabilities` is (t, classes) or (1, t, classes)."""
    steps = probabilities.reshape(-1, probabilities.shape[-1])
    if steps.shape[1] != len(alphabet):
        raise ValueError(f"the model has {steps.shape[1]} classes, the dictionary {len(alphabet)}")
    best = steps.argmax(axis=1)
    kept = [
        step for step in range(len(best)) if best[step] != 0 and (step == 0 or best[step] != best[step - 1])
    ]
    if not kept:
        return Reading("", 0.0)
    confidence = float(np.mean([steps[step, best[step]] for step in kept]))
    return Reading("".join(alphabet[best[step]] for step in kept), confidence)
