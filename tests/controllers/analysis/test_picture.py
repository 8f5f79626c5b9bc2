"""The picture of the evidence: well-formed, within its frame, from the simulation's own histories."""

import re
import xml.etree.ElementTree as Xml
from pathlib import Path

from controllers.analysis.picture import Line, svg
from controllers.analysis.simulate import main, picture

ROOT = Path(__file__).resolve().parents[3]


def test_lines_stay_within_the_frame_whatever_e_is() -> None:
    text = svg([Line(logs=[-99.0, 0.0, 99.0], style=1, label="a < b")], title="t & u", limit=100)
    root = Xml.fromstring(text)
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    (curve,) = [item.attrib["d"] for item in root.iter() if item.attrib.get("fill") == "none"]
    points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", curve)[1:]]
    assert len(points) == 4
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert points[1][1] > points[2][1] > points[3][1]  # more evidence is higher
    assert "a < b" in "".join(root.itertext())


def test_the_published_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    assert main(["--picture", str(tmp_path / "e.svg")]) == 0
    drawn = (tmp_path / "e.svg").read_text()
    assert drawn == (ROOT / "docs/pictures/evidence.svg").read_text()
    assert drawn.count('stroke="#8c8c8c"') == 40


def test_equal_revisions_seldom_reach_the_limit_and_worse_ones_stop_there() -> None:
    text = picture(seed=3, equal=3, worse=5)
    labels = re.findall(r">(\d+)%: window (\d+)<", text)
    assert [int(share) for share, _ in labels] == [2, 3, 5, 10]
    windows = [int(count) for _, count in labels]
    assert windows == sorted(windows, reverse=True)
