"""`froster describe`: action names in, a description of each out."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.terminal import Screen, echo, echo_json, warn
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.text.descriptions import Answer, Server

MAX_LISTED = 20  # actions without a description


def describe(
    labels: Annotated[
        str, typer.Argument(help='Action names, "a, b, c", a labels file, or a vocabulary (see `froster classes`).')
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A server with OpenAI's chat completions API, such as http://localhost:11434/v1."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Language model on that server.")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output: JSON for --descriptions.")] = Path(
        "descriptions.json"
    ),
    prompt: Annotated[
        str | None,
        typer.Option(metavar="FILE|TEXT", help="Custom prompt, with {} in place of the name."),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Parallel requests.")] = 4,
    plain: Annotated[bool, typer.Option("--plain", help="No server: a generic sentence around each name.")] = False,
) -> None:
    """Describe actions with a language model, for `froster predict --descriptions` and others.

    Answers are cached, so a stopped command resumes and pays for no answer twice. An API key is read from the
    environment variable OPENAI_API_KEY; local servers need none. If an action gets no valid description, the exit
    status is 1.

    Example: froster describe ucf-101 --endpoint http://localhost:11434/v1 --model llama3.2
    """
    if plain and (endpoint or model or prompt):
        raise FrosterError("--plain uses no server; leave out --endpoint, --model and --prompt.")
    if not plain and not (endpoint and model):
        raise FrosterError("Give a server and its model, --endpoint URL --model NAME, or use --plain.")
    if out.is_dir():
        raise FrosterError(f"--out {out} is a folder; give a file in it.")

    from froster.cli.vocabularies import names_or_file
    from froster.text.descriptions import PROMPT, Server, plain_description

    names = list(names_or_file(labels, "LABELS"))
    if endpoint and model:
        question = PROMPT if prompt is None else read_prompt(prompt)
        server = Server(endpoint, model, os.environ.get("OPENAI_API_KEY", "").strip())
        answers = ask(names, server, question, parallel)
        descriptions = {answer.name: answer.description for answer in answers if answer.description}
    else:
        descriptions = {name: plain_description(name) for name in names}
        warn(f"{len(names)} generic sentences around the names, without a language model.")
    if descriptions:
        write(descriptions, out)
        echo(str(out))
    if len(descriptions) < len(names):
        raise typer.Exit(1)


def read_prompt(text: str) -> str:
    """The prompt itself, or the one in a file."""
    from froster.data.manifests import read_text

    return text if "{}" in text else read_text(Path(text), f"--prompt {text} has no {{}} for the name and, as a file,")


def ask(names: list[str], server: "Server", prompt: str, parallel: int) -> "list[Answer]":
    """Request descriptions, showing progress and cost."""

    from froster.cli.interrupt import stopped_by_signals
    from froster.cli.progress import progress_bar
    from froster.text.descriptions import ask_descriptions

    errors = Screen(stderr=True, soft_wrap=True)
    answers: list[Answer] = []
    with (
        stopped_by_signals("Stopped; the same command resumes with the remaining actions."),
        progress_bar(errors, redirect=True) as bar,
    ):
        task = bar.add_task(f"Asking {server.model}", total=len(names))

        def count_tokens(answer: "Answer") -> None:
            answers.append(answer)
            paid = sum(answer.tokens for answer in answers)
            bar.update(task, advance=1, description=f"Asking {server.model} ({paid:,} tokens)")

        try:
            return ask_descriptions(
                names, server, prompt, parallel=parallel, on_answer=count_tokens, on_retry=errors.print
            )
        finally:
            bar.stop()
            if answers:
                report(answers, len(names), server.model, errors)


def report(answers: "list[Answer]", actions: int, model: str, screen: "Screen") -> None:
    """Print how many actions have a description, the cost, and the actions without one."""
    valid = [answer for answer in answers if answer.description]
    cached = sum(answer.cached for answer in valid)
    from_cache = f", {cached} of them from the cache" if cached else ""
    paid, uncounted = (sum(getattr(answer, what) for answer in answers) for what in ("tokens", "uncounted"))
    unknown = f"; {uncounted} answers without a token count" if uncounted else ""
    screen.print(f"{len(valid)} of {actions} actions described by {model}{from_cache}; {paid:,} tokens paid{unknown}.")
    failed = [answer for answer in answers if answer.reason]
    for answer in failed[:MAX_LISTED]:
        screen.print(f"  {answer.name}: {answer.reason}")
    if len(failed) > MAX_LISTED:
        screen.print(f"  … and {len(failed) - MAX_LISTED} more")


def write(descriptions: dict[str, str], out: Path) -> None:
    """Write the file; where that fails, print what was paid for."""
    from froster.files import WriteError, replace_when_written

    try:
        with replace_when_written(out) as temporary:
            temporary.write_text(json.dumps(descriptions, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except WriteError:
        echo_json(descriptions, indent=2)
        raise
