"""The picture: labels never cover one another nor leave it, outliers do not flatten it, anything can be drawn."""

import io
import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from autoresearch.domain.metric import Direction, Metric
from autoresearch.judge.confirm import Pair, confirm
from autoresearch.report.calibration import Calibration
from autoresearch.report.calibration_figure import draw_calibration
from autoresearch.report.figure import draw_progress, progress_figure
from autoresearch.report.labels import short_forms
from autoresearch.report.summary import summarise
from tests.report.nights import build

METRIC = Metric("val_bpb")


def ink(label, figure):
    """The pixels that a label alone would darken, drawn by matplotlib itself and not by our geometry."""
    alone = Figure(figsize=figure.get_size_inches(), dpi=figure.dpi)
    canvas = FigureCanvasAgg(alone)
    alone.text(
        *label.get_position(), label.get_text(), transform=None, rotation=label.get_rotation(),
        rotation_mode="anchor", ha=label.get_ha(), va=label.get_va(), fontsize=label.get_fontsize(),
        fontfamily=label.get_fontfamily(), parse_math=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # empty boxes darken pixels just as well
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].min(axis=-1) < 200


def assert_legible(progress):
    """No two labels share a pixel, and all of each lies in the picture."""
    picture = progress.figure.bbox
    for label in progress.labels:
        box = label.get_window_extent(progress.figure.canvas.get_renderer())
        assert picture.x0 <= box.x0 and picture.y0 <= box.y0 and box.x1 <= picture.x1 and box.y1 <= picture.y1
    drawn = sum((ink(label, progress.figure).astype(int) for label in progress.labels), np.zeros((1, 1), int))
    assert drawn.max() <= 1


def legend(progress):
    """The words above the picture."""
    return [text.get_text() for text in progress.figure.axes[0].get_legend().get_texts()]


def test_labels_of_real_logs_are_legible(real_log):
    """Four published sessions: no label covers another or leaves the picture, and nearly all are shown."""
    progress = progress_figure(real_log.experiments("night"), real_log.metric)
    assert_legible(progress)
    assert progress.num_dropped <= 3


def test_labels_are_legible_where_larger_is_better(real_log):
    """The same sessions upside down: the room for labels is then above the line."""
    metric = Metric("score", Direction.MAX)
    upside_down = [
        build(e.number, e.verdict, None if e.score is None else -e.score, parent=e.parent)
        for e in real_log.experiments("night")
    ]
    assert_legible(progress_figure(upside_down, metric))


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.text(max_size=60), st.booleans()), min_size=2, max_size=40),
    st.sampled_from(Direction),
)
def test_any_campaign_is_legible(attempts, direction):
    """Whatever was tried, in whatever script."""
    experiments = [
        build(number, "keep" if kept or number == 0 else "discard", value, hypothesis=text)
        for number, (value, text, kept) in enumerate(attempts)
    ]
    assert_legible(progress_figure(experiments, Metric("m", direction)))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["keep", "discard", "crash"]), st.floats(allow_nan=False, allow_infinity=False)),
        max_size=8,
    )
)
def test_any_finite_values_can_be_drawn(attempts):
    """Identical, tiny, huge or opposite values: a picture comes out, never an exception."""
    experiments = [build(i, verdict, None if verdict == "crash" else v) for i, (verdict, v) in enumerate(attempts)]
    progress_figure(experiments, METRIC).figure.canvas.draw()


def test_an_outlier_is_clipped_and_counted(real_log):
    """The limits hold what most attempts did; what lies beyond is an arrow and a number in the legend."""
    values = np.array([row.value for row in real_log.rows if row.value is not None])
    progress = progress_figure(real_log.experiments("night"), real_log.metric)
    low, high = progress.figure.axes[0].get_ylim()
    outside = sum(1 for row in real_log.rows if row.verdict == "discard" and not low <= row.value <= high)
    assert high - low < 6 * (np.quantile(values, 0.85) - values.min()) + 0.5 * (high - low)
    assert outside == 0 or any(f"off the scale ({outside}," in text for text in legend(progress))


def test_clipped_leaps_keep_their_names(real_log):
    """The first leaps may lie beyond the edge; one block names them with their values."""
    progress = progress_figure(real_log.experiments("night"), real_log.metric)
    _, high = progress.figure.axes[0].get_ylim()
    leaps = [row for row in real_log.rows if row.verdict == "keep" and row.value > high]
    words = "\n".join(label.get_text() for label in progress.labels)
    assert all(f"{row.value:.4g}" in words for row in leaps)


def test_a_crowd_of_keeps_drops_the_least_important_labels():
    """Three hundred keeps cannot all be named; the incumbent is, and the legend says how many are not.

    The baseline is none of them, as everywhere else.
    """
    steps = [build(i, "keep", 1 - i * 1e-3, hypothesis=f"a small step, number {i}") for i in range(300)]
    progress = progress_figure(steps, METRIC)
    assert "number 299" in "".join(label.get_text() for label in progress.labels)
    assert f"kept (299, {progress.num_dropped} of them not labelled)" in legend(progress)
    assert_legible(progress)


@pytest.mark.parametrize(
    ("hypothesis", "shortest"),
    [
        ("DEPTH 2 -> 1", "DEPTH -> 1"),
        ("TOTAL_BATCH_SIZE 4096 -> 2048", "TOTAL_BATCH_S… -> 2048"),
        ("wider MLP - more room for the same thought", "wider MLP"),
        ("QK_NORM 1 -> 0, because norms are dear", "QK_NORM 1 -> 0"),
    ],
)
def test_a_short_label_never_shows_the_old_value_alone(hypothesis, shortest):
    """What is left of a turned constant where there is no room is the value that it was turned to."""
    forms = short_forms(hypothesis)
    assert forms[-1] == shortest
    assert all("->" in form for form in forms) is ("->" in hypothesis)


def test_the_noise_stands_beside_the_gains(night):
    """With replicates there is a band around the incumbent; without, none is drawn."""
    assert "incumbent ± noise (0.02)" in legend(progress_figure(night, METRIC))
    assert not any("noise" in text for text in legend(progress_figure(night[1:], METRIC)))


def test_the_use_of_time_is_drawn_when_it_is_known(night):
    """One bar below the picture; imported logs have none."""
    timed = [build(0, "keep", 1.0, start=1000.0), build(1, "discard", 1.1, start=1200.0)]
    assert len(progress_figure(timed, METRIC).figure.axes) == 2
    assert len(progress_figure(night, METRIC).figure.axes) == 1


@pytest.mark.parametrize("experiments", [[], [build(0, "crash", None)]])
def test_a_campaign_without_scores_is_a_message(experiments):
    """A picture that says so, rather than none."""
    progress = progress_figure(experiments, METRIC)
    assert any("yet" in text.get_text() for text in progress.figure.texts)


def test_text_of_agents_is_no_mathematics():
    """A lone dollar sign or brace would otherwise be a parse error in the middle of the night."""
    steps = [build(0, "keep", 1.0), build(1, "keep", 0.9, hypothesis=r"pay $5 for \frac{1 and _{x}$")]
    progress_figure(steps, Metric("$m_{")).figure.canvas.draw()


def test_the_picture_has_the_promised_size_and_no_leftovers(tmp_path, night):
    """1600 × 900 pixels, written whole."""
    path = draw_progress(night, METRIC, tmp_path / "progress.png")
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (1600, 900)
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_campaign_gives_the_same_picture(night):
    """No randomness in placement."""
    pictures = []
    for _ in range(2):
        file = io.BytesIO()
        progress_figure(night, METRIC, summary=summarise(night, METRIC)).figure.savefig(file, metadata={"Software": ""})
        pictures.append(file.getvalue())
    assert all(a == b for a, b in itertools.pairwise(pictures))


@pytest.mark.slow
def test_ten_thousand_experiments_are_drawn():
    """A long campaign is a picture too, within a minute on a small machine."""
    steps = [
        build(i, "keep" if i % 97 == 0 else "discard", 1 / (1 + i) + (i * 7919 % 101) / 5000) for i in range(10_000)
    ]
    assert_legible(progress_figure(steps, METRIC))


def test_beliefs_stand_beside_the_dots_of_keeps(night):
    """One diamond with its interval for each keep that the judge believed something of; none under other rules."""
    evidence = {"believed": 0.93, "believed_sd": 0.01, "expected_gain": 0.06, "expected_gain_sd": 0.02}
    judged = [night[0], replace(night[1], evidence=evidence), *night[2:]]
    assert "believed (95 % sure)" in legend(progress_figure(judged, METRIC))
    assert "believed (95 % sure)" not in legend(progress_figure(night, METRIC))


def test_only_a_confirmed_gain_is_a_bold_title(night):
    """Everything else says of itself that it is not confirmed."""
    plain = progress_figure(night, METRIC).figure.texts[0]
    assert plain.get_text().endswith("(not confirmed)") and plain.get_weight() == "normal"
    found = confirm([Pair(seed, 1.0 + seed / 1000, 0.9 + seed / 2000) for seed in range(5)], METRIC)
    summary = summarise(night, METRIC, confirmation=found)
    title = progress_figure(night, METRIC, summary=summary).figure.texts[0]
    assert title.get_text() == summary.confirmed and title.get_weight() == "bold"


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2), max_size=8))
def test_any_predictions_can_be_drawn(tmp_path_factory, pairs):
    """None at all, identical, tiny, huge or wild ones."""
    one = Calibration("agent $x_{", tuple(p for p, _ in pairs), tuple(f for _, f in pairs))
    path = draw_calibration([one], METRIC, tmp_path_factory.mktemp("predictions") / "calibration.png")
    assert path.read_bytes().startswith(b"\x89PNG") and list(path.parent.iterdir()) == [path]
