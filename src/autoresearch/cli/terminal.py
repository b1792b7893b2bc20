"""The console that every verb prints to."""

from __future__ import annotations

from rich.console import Console


class Terminal(Console):
    """A console for other people's words, whose reader may leave (`| head`).

    Rich would end the process then, with exit code 1 and from any thread; here it is the `OSError` that it is, which
    `main` takes for the end and a campaign for the loss of its view.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Let the caller decide."""
        raise BrokenPipeError("nobody reads the output any more")
