"""What coding agents print, as they printed it: recordings of the real ones, whole, cut, and among garbage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.usage import Price, Usage
from autoresearch.lab.sections import ResearcherSection
from autoresearch.researchers.agent_output import Said, Trouble, events_in, other_lines, trouble_in
from autoresearch.researchers.agents import AGENTS, PRICES, price_of
from tests.researchers.stub_model import CACHED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS

RECORDINGS = Path(__file__).parent / "recordings"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))


def recorded(name: str) -> list[str]:
    """The lines of a recording."""
    return (RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


def read(name: str, lines: list[str] | None = None) -> Said:
    """A recording, or other lines, as its agent's reader understands them."""
    return AGENTS[name.split("-", maxsplit=1)[0]].read(events_in(recorded(name) if lines is None else lines))


@pytest.mark.parametrize("kind", AGENTS)
def test_work_is_read_with_its_bill(kind: str) -> None:
    """Four answers of the stub, however the agent counts them: once, up to now, each for itself, cached ones beside."""
    said = read(f"{kind}-work")
    assert said.text == "I made X smaller" and not said.complaint
    usage = said.usage
    assert (usage.input_tokens, usage.cached_tokens) == (4 * INPUT_TOKENS, 4 * CACHED_TOKENS)
    assert (usage.output_tokens, usage.turns) == (4 * OUTPUT_TOKENS, 4)


def test_only_an_agent_that_names_a_figure_has_a_cost() -> None:
    """Claude Code does; 0, which opencode says of a model without a price, is no figure."""
    costs = {kind: read(f"{kind}-work").cost_usd for kind in AGENTS}
    assert costs.pop("claude") == pytest.approx(0.0142)
    assert set(costs.values()) == {None}


@pytest.mark.parametrize(
    ("what", "trouble"),
    [
        ("auth", Trouble.LOGGED_OUT),
        ("credit", Trouble.NO_CREDIT),
        ("model", Trouble.UNKNOWN_MODEL),
        ("overload", Trouble.BUSY),
    ],
)
def test_trouble_is_told_apart(what: str, trouble: Trouble) -> None:
    """Each agent has words of its own for the same trouble, and every one of them is understood."""
    names = [name for name in NAMES if name.endswith(f"-{what}")]
    assert {name: trouble_in(read(name).complaint) for name in names} == dict.fromkeys(names, trouble) != {}


@pytest.mark.parametrize(
    ("words", "trouble"),
    [
        ("Not logged in · Please run /login", Trouble.LOGGED_OUT),
        ("Please set an Auth method in your settings.json or specify GEMINI_API_KEY", Trouble.LOGGED_OUT),
        ("error: unknown option '--no-such'", Trouble.OTHER_FLAGS),
        ("error: unexpected argument '--no-such' found", Trouble.OTHER_FLAGS),
        ("You exceeded your current quota, please check your plan and billing details.", Trouble.NO_CREDIT),
        ("Claude usage limit reached. Your limit will reset at 3am", Trouble.USAGE_LIMIT),
        ("You've hit your usage limit. Try again in 2 hours", Trouble.USAGE_LIMIT),
        ("You've hit your limit · resets 3am (UTC)", Trouble.USAGE_LIMIT),
        ("5-hour limit reached ∙ resets 3am", Trouble.USAGE_LIMIT),
        ("read ECONNRESET: connection reset by peer", Trouble.UNREACHABLE),
        ("error_max_turns", None),
        ("429 Too Many Requests", Trouble.BUSY),
        ("Reconnecting... waiting for network (Connection failed: error sending request)", Trouble.UNREACHABLE),
        ("I would rather not make that change", None),
        ("", None),
    ],
)
def test_words_of_trouble(words: str, trouble: Trouble | None) -> None:
    """Wordings seen elsewhere; what is no trouble of the agent's is none of these."""
    assert trouble_in(words) is trouble


def test_success_with_an_error_is_an_error() -> None:
    """Claude Code ends a session that it could not begin with `subtype: "success"` and `is_error: true`."""
    result = json.loads(recorded("claude-credit")[-1])
    assert result["subtype"] == "success" and result["is_error"] is True
    assert read("claude-credit").complaint.startswith("Credit balance is too low")


def test_tries_that_were_made_up_for_are_no_complaint() -> None:
    """An agent that had to try again and then worked has worked."""
    retry = '{"type": "error", "message": "Reconnecting... 1/5 (unexpected status 529)"}'
    assert not read("codex-work", [retry, *recorded("codex-work")]).complaint
    retry = '{"type": "system", "subtype": "api_retry", "error": "overloaded", "error_status": 529}'
    assert not read("claude-work", [retry, *recorded("claude-work")[:-1]]).complaint


NOISE = st.one_of(
    st.text(max_size=40).filter(lambda text: not text.lstrip().startswith("{")),
    st.sampled_from(["{", '{"type": "resu', "[1, 2]", "null", '{"type": "brand_new_event", "x": 1}', "{}", "{" * 5000]),
)


@given(data=st.data(), kind=st.sampled_from(sorted(AGENTS)))
def test_noise_between_the_lines_changes_nothing(data: st.DataObject, kind: str) -> None:
    """Warnings, halves of lines and events of tomorrow are passed over."""
    lines = [part for line in recorded(f"{kind}-work") for part in (*data.draw(st.lists(NOISE, max_size=2)), line)]
    lines = [piece for line in lines for piece in line.splitlines() or [""]]
    assert read(f"{kind}-work", lines) == read(f"{kind}-work")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_value_in_any_place_is_survived(data: st.DataObject, name: str) -> None:
    """A field of another kind than yesterday costs that field: no reader raises, and counts stay counts."""
    events = list(events_in(recorded(name)))
    event = dict(data.draw(st.sampled_from(events)))
    place = event
    while (inner := [key for key, value in place.items() if isinstance(value, dict) and value]) and data.draw(
        st.booleans()
    ):
        key = data.draw(st.sampled_from(inner))
        place[key] = dict(place[key])
        place = place[key]
    if place:
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    said = AGENTS[name.split("-", maxsplit=1)[0]].read([*events, event])
    assert isinstance(said.text, str) and isinstance(said.complaint, str)
    counts = (said.usage.input_tokens, said.usage.cached_tokens, said.usage.output_tokens, said.usage.turns)
    assert all(count is None or count >= 0 for count in counts)
    assert said.cost_usd is None or said.cost_usd >= 0


@given(name=st.sampled_from(NAMES), share=st.floats(0, 1))
def test_a_session_that_was_cut_off_is_read_as_far_as_it_goes(name: str, share: float) -> None:
    """A log may end anywhere, in the middle of a line too."""
    text = "\n".join(recorded(name))
    said = read(name, text[: int(share * len(text))].splitlines())
    assert isinstance(said, Said)


def test_what_is_no_json_is_kept_apart() -> None:
    """Agents complain in plain words before they know how to talk."""
    assert other_lines(['{"type": "x"}', " Please log in ", ""]) == ["Please log in"]


def test_cached_tokens_cost_less() -> None:
    """1,000 read, 600 of them cached, 50 written, at 2, 1 and 10 dollars a million."""
    usage = Usage(input_tokens=1000, cached_tokens=600, output_tokens=50)
    assert Price(2.0, 1.0, 10.0).of(usage) == pytest.approx((400 * 2 + 600 * 1 + 50 * 10) / 1e6)
    assert Price(2.0, 1.0, 10.0).of(Usage(seconds=3.0)) is None


def test_a_model_without_a_price_has_none() -> None:
    """With its provider's name or without; never a neighbour's price."""
    assert price_of("openai/GPT-5.2-codex") == PRICES["gpt-5.2-codex"]
    assert price_of("gpt-5.2-codex-hyper") is None and price_of("") is None


def test_the_lab_file_knows_the_same_agents() -> None:
    """The lab's layer may not look into the researchers', so the names stand in both."""
    kinds = get_args(ResearcherSection.model_fields["kind"].annotation)
    assert set(AGENTS) <= set(kinds)
    assert all(AGENTS[kind].program == kind for kind in AGENTS)
    assert all(ResearcherSection.model_validate({"kind": kind}).program == kind for kind in AGENTS)
