"""The demo's picture, tensor and text, against the real pretrained model."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hack.demo import model, ocr

PREDICT = """
import sys, numpy
import paddle.inference as inference
folder, source, target = sys.argv[1:]
config = inference.Config(folder + "/inference.pdmodel", folder + "/inference.pdiparams")
config.disable_gpu(); config.disable_glog_info()
predictor = inference.create_predictor(config)
given = predictor.get_input_handle(predictor.get_input_names()[0])
given.copy_from_cpu(numpy.load(source))
predictor.run()
numpy.save(target, predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu())
"""


def test_the_real_model_reads_the_drawn_text(tmp_path: Path) -> None:
    fetched = model.fetch()
    for name, content in fetched.files.items():
        (tmp_path / name).write_bytes(content)
    texts = ["Hello Paddle 26", "kubectl apply"]  # as wide as the smallest tensor, so that they stack
    np.save(tmp_path / "in.npy", np.concatenate([ocr.preprocess(ocr.draw(text)) for text in texts]))
    # In a process of its own: Paddle does not give its memory back.
    command = [
        sys.executable,
        "-c",
        PREDICT,
        str(tmp_path),
        str(tmp_path / "in.npy"),
        str(tmp_path / "out.npy"),
    ]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    alphabet = ocr.characters(fetched.dictionary)
    readings = [ocr.decode(row, alphabet) for row in np.load(tmp_path / "out.npy")]
    assert [reading.text for reading in readings] == texts
    assert all(reading.confidence > 0.9 for reading in readings)


def test_preprocess_pads_a_short_line_grows_with_a_long_one_and_squeezes_the_longest() -> None:
    short = ocr.preprocess(Image.new("RGB", (48, 48), "white"))
    assert short.shape == (1, 3, ocr.HEIGHT, ocr.WIDTH)
    assert short[0, :, :, :48].min() == 1.0
    assert not short[0, :, :, 48:].any()
    assert ocr.preprocess(Image.new("RGB", (500, 48), "black")).shape[3] == 500
    long = ocr.preprocess(Image.new("RGB", (4000, 48), "black"))
    assert long.shape[3] == ocr.WIDEST
    assert long.max() == -1.0


def test_preprocess_orders_the_channels_blue_green_red() -> None:
    red = ocr.preprocess(Image.new("RGB", (320, 48), (255, 0, 0)))
    assert [float(red[0, channel, 0, 0]) for channel in range(3)] == [-1.0, -1.0, 1.0]


def one_hot(path: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[path]


@given(st.text(alphabet="ab", max_size=12), st.data())
def test_decode_undoes_repeats_and_blanks(text: str, data: st.DataObject) -> None:
    alphabet = ["", "a", "b", " "]
    path = [0]
    for character in text:
        repeats = data.draw(st.integers(1, 3))
        # Equal neighbours need a blank between them; others may have one.
        if path[-1] == alphabet.index(character) or data.draw(st.booleans()):
            path.append(0)
        path += [alphabet.index(character)] * repeats
    assert ocr.decode(one_hot(path, 4), alphabet).text == text


def test_decode_of_blanks_is_empty_and_of_a_wrong_dictionary_an_error() -> None:
    assert ocr.decode(one_hot([0, 0], 3), ["", "a", " "]) == ocr.Reading("", 0.0)
    with pytest.raises(ValueError, match="3 classes, the dictionary 2"):
        ocr.decode(one_hot([0], 3), ["", " "])
