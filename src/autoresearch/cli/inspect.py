"""`status`, `log`, `show`, `diff`, `report`, `import`: read the ledger, in words or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from autoresearch.campaign.session import Home, find_root
from autoresearch.cli.reading import AsJson, Lab, Name, Number, find, opened, print_json
from autoresearch.cli.submitting import last_word
from autoresearch.cli.terminal import Terminal
from autoresearch.cli.writing import learnt_in, summarise_campaign, write_campaign_report
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.line import what
from autoresearch.domain.metric import Direction
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Purpose, Split
from autoresearch.domain.usage import Usage
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import UserError
from autoresearch.host.clock import SystemClock
from autoresearch.judge.noise import pooled_deviation
from autoresearch.lab.git import Git
from autoresearch.lab.workspace import hide
from autoresearch.ledger import results_tsv
from autoresearch.ledger.ledger import Campaign, Ledger
from autoresearch.report.bill import contributions
from autoresearch.report.disturbed import machine
from autoresearch.report.gist import gist
from autoresearch.report.learnt import learnt_sentences
from autoresearch.report.words import explain, number_in
from autoresearch.researchers.quoting import one_line


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    for verb in (status, log, show, diff, report):
        app.command()(verb)
    app.command("import")(import_results)


def status(lab: Lab = Path(), campaign: Name = None, as_json: AsJson = False) -> None:
    """Say how a campaign stands: best so far, counts, and what runs now."""
    with opened(lab, campaign) as (home, ledger, chosen):
        summary = summarise_campaign(ledger, chosen)
        live = [e for e in ledger.experiments(chosen.name) if e.stage is not Stage.SETTLED]
        process = home.running_process()
        running = [(e.number, run.slot) for e in live for run in e.runs if run.result is None]
        learnt = learnt_in(ledger, chosen.name)
        waiting = [each for each in home.submissions.waiting() if ledger.submitted(each.commit) is None]
    if as_json:
        state: dict[str, object] = {"campaign": chosen.name, "process": process, "running": [_on(r) for r in running]}
        state["waiting"] = [{**asdict(each), "id": each.commit[:8]} for each in waiting]
        state["review"] = asdict(learnt.reviews[-1]) if learnt.reviews else None
        state["reviewing"] = learnt.writing if process else ""
        state["open_ideas"] = [asdict(idea) for idea in learnt.ideas]
        print_json({**state, "live": [_record(e) for e in live], "summary": summary.to_dict()})
        return
    console = Terminal()
    console.print(Text(f"campaign {chosen.name}: {summary.headline}"), soft_wrap=True)
    if summary.confirmed:
        console.print(Text(summary.confirmed), soft_wrap=True)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts.items())
    rate = f", {summary.experiments_per_hour:.4g} measured an hour" if summary.experiments_per_hour else ""
    unmeasured = summary.num_experiments - summary.num_measured
    beside = f", {unmeasured} of them never run" if unmeasured else ""
    tried = f"{summary.num_experiments} experiment{'s' * (summary.num_experiments != 1)}"
    console.print(f"{tried} ({verdicts}{beside}){rate}", markup=False, soft_wrap=True)
    for sentence in (*gist(summary), *contributions(summary), *summary.remarks):
        console.print(sentence, markup=False, soft_wrap=True)
    for sentence in learnt_sentences(learnt if process else replace(learnt, writing="")):
        console.print(sentence, markup=False, soft_wrap=True)
    if process:
        for experiment in live:
            slots = ", ".join(slot for number, slot in running if number == experiment.number)
            what = f"runs on {slots}" if slots else str(experiment.stage)
            console.print(f"#{experiment.number} {what}: {experiment.proposal.hypothesis}", markup=False)
    for each in waiting:
        idea = one_line(each.proposal.hypothesis, 100)
        line = f"{each.commit[:8]} is handed in ({idea}): {_what_it_waits_for(home)}"
        console.print(line, markup=False, soft_wrap=True)
    if not process and chosen.origin == "run":
        left = f", {len(live)} experiments under way when it stopped" if live else ""
        console.print(f"nobody is running it now{left}; go on with `autoresearch run`", markup=False, soft_wrap=True)


def _on(running: tuple[int, str]) -> dict[str, object]:
    return {"experiment": running[0], "slot": running[1]}


def log(
    lab: Lab = Path(),
    campaign: Name = None,
    as_json: AsJson = False,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many, the newest.")] = None,
    events: Annotated[bool, typer.Option("--events", help="Everything that happened, not one line each.")] = False,
) -> None:
    """List experiments, oldest first."""
    with opened(lab, campaign) as (_, ledger, chosen):
        experiments = ledger.experiments(chosen.name)[-(last or 0) :]
        journal = ledger.events(chosen.name)[-(last or 0) :] if events else []
    if events:
        for event in journal:
            number = "" if event.experiment is None else f"#{event.experiment} "
            line = f"{event.at:.3f} {number}{event.what}: {event.detail}"
            print(json.dumps(asdict(event), ensure_ascii=False) if as_json else line)
        return
    if as_json:
        print_json([_record(e) for e in experiments])
        return
    Terminal().print(_table(experiments, chosen.metric.name))


def _table(experiments: list[Experiment], metric_name: str) -> Table:
    """One line for each experiment; beliefs have a column where a judge believes, researchers where there are two."""
    has_beliefs = any("expected_gain" in e.evidence for e in experiments)
    beliefs = ("believed",) if has_beliefs else ()
    who = {e.researcher for e in experiments if not e.is_baseline and not e.proposal.kind.is_derived}
    whose = ("researcher",) if len(who) > 1 else ()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("#", "commit", metric_name, "gain", *beliefs, "verdict", "runs", *whose, "what"):
        right = title in ("#", "gain", "believed", "runs")
        is_prose = title in ("researcher", "what")  # all else is short, and a number must not break
        table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=not is_prose)
    styles = {"keep": "green", "crash": "red", "discard": "dim"}
    for e in experiments:
        gains = [number_in(e.evidence, key) for key in ("gain", *(("expected_gain",) if has_beliefs else ()))]
        table.add_row(
            str(e.number),
            (e.commit or "")[:8],
            "" if e.score is None else f"{e.score:.6g}",
            *("" if gain is None else f"{gain:+.2g}" for gain in gains),
            Text(str(e.verdict or e.stage), style=styles.get(str(e.verdict), "yellow")),
            str(len(e.evidence_runs)),
            *((e.researcher,) if whose else ()),
            Text(what(e)),
        )
    return table


def show(which: Number, lab: Lab = Path(), campaign: Name = None, as_json: AsJson = False) -> None:
    """Tell everything about one experiment: the plan, each run, the verdict and why."""
    with opened(lab, campaign) as (home, ledger, chosen):
        experiments = ledger.experiments(chosen.name)
        _check_waiting(home, which, ledger)
        experiment = find(experiments, which)
    if as_json:
        print_json(_record(experiment))
        return
    console = Terminal()
    plan = experiment.proposal

    def line(title: str, text: object) -> None:
        if text not in ("", None):
            console.print(Text.assemble((f"{title:<12}", "bold"), str(text)), soft_wrap=True)

    line(f"#{experiment.number}", what(experiment) or "(nothing was proposed)")
    line("verdict", experiment.verdict or experiment.stage)
    for sentence in explained(experiment, experiments, chosen):
        line("", sentence)
    line("reason", experiment.reason)
    line("researcher", f"{experiment.researcher}, {plan.kind}")
    line("asked for", experiment.operator)
    effect = plan.expected_effect
    line("expected", None if effect is None else f"{effect:+.4g} {chosen.metric.name} (positive is better)")
    line("cost", _cost(plan))
    line("used", _used(plan.usage) if plan.usage else None)
    line("plan drift", experiment.plan_drift)
    line("", "nothing of the plan was carried out: its idea is open" if experiment.drops_idea else None)
    line("takes up", plan.idea and f"the open idea {plan.idea}")
    line("handed in", plan.submitted)
    line("commit", experiment.commit)
    line("parent", experiment.parent)
    if chosen.origin == "run":
        line("lines", f"+{experiment.lines_added} -{experiment.lines_removed}")
    line("changed", _changed(experiment, experiments))
    for preflight in experiment.preflights:
        ending = (
            "no answer yet" if preflight.outcome is None else f"{preflight.outcome} in {preflight.wall_seconds:.1f} s"
        )
        where = f"on {preflight.slot}" if preflight.slot else "foretold"
        line("preflight", f"{ending} {where}, {preflight.commit[:8]}")
        for told in dict.fromkeys(preflight.detail.splitlines()):
            line("", told)
    for run in experiment.runs:
        result = run.result
        ending = "no answer yet" if result is None else f"{result.outcome}"
        score = "" if result is None or result.metric is None else f" {chosen.metric.name} {result.metric:.6g}"
        seconds = f" in {result.wall_seconds:.1f} s" if result is not None and result.wall_seconds else ""
        seed = "" if run.request.seed == results_tsv.UNKNOWN_SEED else f", seed {run.request.seed} on {run.slot}"
        line(f"run {run.request.ordinal}", f"{ending}{score}{seed}{seconds}{_beside(run, experiment)}")
        if result is not None:
            line("", machine(result))
            for told in dict.fromkeys(result.detail.splitlines()):  # the same line as head and in the log's tail
                line("", told)
    if experiment.runs and chosen.origin == "run":
        line("logs", home.runs / experiment.runs[-1].request.key)
    if (session := home.session(chosen.name, experiment.number)).is_dir():
        line("session", session)
    if experiment.commit and chosen.origin == "run":
        line("next", f"autoresearch diff {experiment.number}")


def _check_waiting(home: Home, which: str, ledger: Ledger) -> None:
    """What was handed in and is not taken yet is nothing to show.

    Raises:
        UserError: That is what is meant.
    """
    for each in home.submissions.waiting():
        if len(which) >= 4 and each.commit.startswith(which) and ledger.submitted(each.commit) is None:
            idea = one_line(each.proposal.hypothesis, 100)
            raise UserError(f"{which} is handed in and not begun yet ({idea}): {_what_it_waits_for(home)}")


def _what_it_waits_for(home: Home) -> str:
    if process := home.running_process():
        return f"process {process}, which holds the lab, takes it in when the baseline is measured"
    said = last_word(home)
    failed = f" (the last attempt ended with: {said.removeprefix(_COMPLAINT)})" if said.startswith(_COMPLAINT) else ""
    return f"nobody runs the lab now; unless that changes at once, use `autoresearch try --waiting`{failed}"


_COMPLAINT = "autoresearch: "


def explained(experiment: Experiment, experiments: list[Experiment], campaign: Campaign) -> tuple[str, ...]:
    """What a verdict rests on, in a few sentences."""
    noise = pooled_deviation(e.replicates for e in experiments)
    rival = _rival(experiment, experiments)
    return tuple(explain(experiment, campaign.metric, rival=rival, noise=noise, policy=campaign.policy))


def _cost(plan: Proposal) -> str | None:
    """What a proposal cost and who says so; "unknown" where a model was paid and nobody knows what."""
    usage = plan.usage
    if plan.cost_usd is None:
        return "unknown" if usage and usage.tokens else None
    says = f", by the {usage.priced_by}" if usage and usage.priced_by not in ("", "agent") else ""
    return f"${plan.cost_usd:.4f}{says}" if plan.cost_usd or says else None


def _used(usage: Usage) -> str:
    """What a session took."""
    cached = f", {usage.cached_tokens:,} of them cached" if usage.cached_tokens else ""
    parts = (
        "" if usage.input_tokens is None else f"{usage.input_tokens:,} tokens read{cached}",
        "" if usage.output_tokens is None else f"{usage.output_tokens:,} written",
        "" if usage.turns is None else f"{usage.turns} turn{'s' * (usage.turns != 1)}",
        "" if usage.seconds is None else f"{usage.seconds:.1f} s",
        usage.model,
    )
    return ", ".join(part for part in parts if part)


_MEASUREMENTS = {
    Purpose.NOISE: "to measure the noise",
    Purpose.AUDIT: "to compare progress on both splits",
    Purpose.CONFIRM: "to confirm the headline",
    Purpose.REPRODUCE: "to reproduce the score",
}


def _beside(run: Run, experiment: Experiment) -> str:
    """What sets a run apart from the verdict's evidence: its purpose, its split, an earlier revision."""
    request = run.request
    apart = [] if request.purpose.is_evidence else [_MEASUREMENTS[request.purpose]]
    apart += ["on the sealed split"] if request.split is Split.TEST else []
    apart += ["before it was carried over"] if request.commit != experiment.commit else []
    return f" ({', '.join(apart)})" if apart else ""


def _rival(experiment: Experiment, experiments: list[Experiment]) -> Experiment | None:
    """The kept experiment that it had to beat; of an imported one, what its researcher kept before it."""
    if experiment.is_baseline:
        return None
    kept = [e for e in experiments if e.verdict is Verdict.KEEP and e.score is not None and e is not experiment]
    if experiment.parent and experiment.parent != experiment.commit:
        return next((e for e in kept if e.commit == experiment.parent), None)
    before = [e for e in kept if e.number < experiment.number and e.researcher == experiment.researcher]
    return before[-1] if before else None


def _changed(experiment: Experiment, experiments: list[Experiment]) -> str:
    """Constants that differ from the parent's, and what else changed by name, as far as the parent is one of ours."""
    parent = next((e for e in experiments if e.commit == experiment.parent), None)
    if parent is None or parent is experiment:
        return ""
    before, after = parent.constants, experiment.constants
    names = [name for name in after if name in before and before[name] != after[name]]
    code = [name for name in experiment.changed if name not in names]
    return ", ".join([*(f"{name} {before[name]} -> {after[name]}" for name in names), *code])


def diff(which: Number, lab: Lab = Path(), campaign: Name = None) -> None:
    """Print an experiment's change as a patch."""
    with opened(lab, campaign) as (home, ledger, chosen):
        experiment = find(ledger.experiments(chosen.name), which)
    if chosen.origin != "run":
        raise UserError(f"campaign {chosen.name} was imported: its commits are not in this repository")
    if experiment.commit is None:
        raise UserError(f"#{experiment.number} has no commit: {experiment.reason or 'it is still being written'}")
    print(Git(home.root).run("diff", experiment.parent, experiment.commit, "--").decode(errors="replace"), end="")


def report(
    lab: Lab = Path(),
    campaign: Name = None,
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write into.")] = None,
) -> None:
    """Write the report (Markdown and progress.png) and say where it is."""
    with opened(lab, campaign) as (home, ledger, chosen):
        if as_json:
            print_json(summarise_campaign(ledger, chosen).to_dict())
            return
    try:
        path, _ = write_campaign_report(home, chosen, output)
        print(path)
    except OSError as error:
        raise UserError(
            f"{output or home.folder} cannot be written ({error.strerror}): choose another --output"
        ) from error


def import_results(
    file: Annotated[Path, typer.Argument(help="A results.tsv of the original, or of a relative.")],
    lab: Lab = Path(),
    name: Annotated[str | None, typer.Option(help="What to call the campaign; the file's name if absent.")] = None,
    metric: Annotated[str | None, typer.Option(help="The column that decides.")] = None,
    direction: Annotated[Direction | None, typer.Option(help="Which way is better.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read a results.tsv into the ledger as a finished campaign, with a word on every odd row."""
    imported = results_tsv.read(file, metric=metric, direction=direction)
    called = name or file.stem
    home = Home(find_root(lab.resolve()))
    hide(home.folder)
    ledger = Ledger.open(home.ledger, SystemClock())
    try:
        experiments = imported.experiments(called)
        campaign = Campaign(called, "imported", 0, "unknown", imported.metric, origin="import")
        ledger.import_experiments(campaign, experiments)
    finally:
        ledger.close()
    if as_json:
        print_json({"campaign": called, "experiments": len(experiments), "remarks": list(imported.remarks)})
        return
    console = Terminal()
    for remark in imported.remarks:
        console.print(Text(remark), soft_wrap=True)
    console.print(Text(f"{len(experiments)} experiments imported; see them with: autoresearch log --campaign {called}"))


def _record(experiment: Experiment) -> dict[str, object]:
    return {**asdict(experiment), "score": experiment.score}
