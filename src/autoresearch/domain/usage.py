"""What a proposal took to write: tokens, turns, seconds, and dollars as far as anybody knows them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Usage:
    """What one session of a coding agent used; None where the agent does not say, never 0 for "unknown"."""

    input_tokens: int | None = None
    """Tokens read, those that the provider had in its cache included."""
    cached_tokens: int | None = None
    """How many of the tokens read came from the cache, and so cost less."""
    output_tokens: int | None = None
    """Tokens written, hidden reasoning included."""
    turns: int | None = None
    """How often the model answered, with a word or with the call of a tool."""
    seconds: float | None = None
    """From the start of the session to its end."""
    model: str = ""
    """The model as the agent names it; empty when it does not."""
    priced_by: str = ""
    """Who says what it cost: `agent`, `lab file`, `table of <month>`; empty when nobody does."""

    @property
    def tokens(self) -> int | None:
        """Tokens read and written together."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)

    def beyond(self, earlier: Usage) -> Usage:
        """What came after `earlier`, where both count a session from its beginning; turns and time are their own."""

        def rest(now: int | None, before: int | None) -> int | None:
            return None if now is None else max(0, now - (before or 0))

        return replace(
            self,
            input_tokens=rest(self.input_tokens, earlier.input_tokens),
            cached_tokens=rest(self.cached_tokens, earlier.cached_tokens),
            output_tokens=rest(self.output_tokens, earlier.output_tokens),
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars for a million tokens."""

    input: float
    cached: float
    output: float

    def of(self, usage: Usage) -> float | None:
        """What a session cost by this price; None when its tokens are not known."""
        if usage.tokens is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.input_tokens or 0)
        fresh = (usage.input_tokens or 0) - cached
        return (fresh * self.input + cached * self.cached + (usage.output_tokens or 0) * self.output) / 1e6
