"""Descriptions of actions: from a file, from a language model, or phrases made of the name alone."""

import email.utils
import hashlib
import importlib.util
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

from froster.backbones.tokenizer import CONTEXT_LENGTH, tokenize
from froster.data.manifests import read_text
from froster.data.vocabularies import readable_name
from froster.errors import FrosterError, FrosterWarning
from froster.extras import needs_extra
from froster.files import cache_dir, replace_when_written
from froster.text.class_files import classes_of, load_json
from froster.text.labels import Labels, check_pairs
from froster.text.names import name_key
from froster.text.prompts import class_prompts

# The instruction of FROSTER's authors, "Please describe this action in the video", and what CLIP can use of an answer.
PROMPT = (
    'Please describe this action in the video: "{}". '
    'Answer with one sentence of 15 to 35 words, without line breaks, that begins with "This video" '
    "and says what can be seen: movements, body, objects, place."
)
FILLERS = re.compile(r"\b(a|action|an|doing|is|of|performing|person|showing|shows|someone|the|this|video)\b|[\W_]")
CONNECT_TIMEOUT = 10.0  # seconds
LONGEST_BACK_OFF = 60.0  # seconds
LONGEST_WAIT = 600.0  # seconds that a server may ask us to wait
PATIENCE = 10.0  # seconds for answers that are under way when the work is stopped


def read_descriptions(path: str | Path) -> Labels:
    """Descriptions from JSON `{"name": "description"}`, or the released JSON `{"0": "name: description"}`.

    Raises `FrosterError` when the file cannot be read, is of another form, or describes an action twice.
    """
    source = f"The descriptions file {path}"
    text = read_text(Path(path), source)
    if not text.lstrip().startswith("{"):
        raise FrosterError(f'{source} must be JSON, {{"name": "description"}}.')
    classes, numbered, _ = classes_of(load_json(text, source), source)
    if numbered and not any(one.description for one in classes):
        raise FrosterError(f"{source}: names and descriptions must be text, not {classes[0].number}.")
    return check_pairs([(one.name, one.description) for one in classes], path)


def describe_labels(
    labels: Mapping[str, str],
    descriptions: Mapping[str, str] | str | Path,
    source: str | Path = "descriptions",
    warn: bool = True,
) -> Labels:
    """The labels with their descriptions, a mapping or a file of them; names agree whatever case and signs they have.

    A label without one keeps what it has; if that is nothing, a warning counts it. Raises `FrosterError` that names
    the file, or `source`, when no label is found, or a label's name stands for several descriptions.
    """
    if isinstance(descriptions, str | Path):
        source, descriptions = descriptions, read_descriptions(descriptions)
    descriptions = check_pairs(list(descriptions.items()), source)
    by_spelling: dict[str, set[str]] = {}
    for name, description in descriptions.items():
        by_spelling.setdefault(name_key(name), set()).add(description)
    described = {}
    for name in labels:
        found = {descriptions[name]} if name in descriptions else by_spelling.get(name_key(name), set())
        if len(found) > 1:
            raise FrosterError(f"{source}: there are {len(found)} descriptions of {name!r}; leave one of them.")
        described[name] = next(iter(found), "")
    if not any(described.values()):
        there, wanted = some(descriptions), some(labels)
        raise FrosterError(f"{source}: no descriptions of these labels; it describes {there}, the labels are {wanted}.")
    described = {name: description or labels[name] for name, description in described.items()}
    bare = [name for name, description in described.items() if not description]
    if bare and warn:
        number = f"{len(bare)} of the {len(labels)} labels"
        warnings.warn(f"{source}: no description of {number} ({some(bare)}).", FrosterWarning, stacklevel=2)
    return described


def some(names: Iterable[str], number: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")


def plain_description(name: str) -> str:
    """A phrase of our own around the name, which adds nothing to it: for trying out what descriptions do."""
    words = readable_name(name)
    # Of "swing baseball" the first word only looks like "juggling" does.
    is_gerund = re.match(r"\w*[aeiouy]\w*ing\b", words)
    return f"This video shows a person {words}." if is_gerund else f"This video shows the action {words}."


@dataclass(frozen=True)
class Server:
    """A server of OpenAI's chat protocol: its address up to `/v1`, and the name of a model there.

    A failed request is tried `tries` times. Times in seconds: one request may take `timeout`; `first_wait` is how long
    the first pause after a failure is, each further one is twice as long.
    """

    endpoint: str
    model: str
    key: str = field(default="", repr=False)
    tries: int = 8
    timeout: float = 300.0
    first_wait: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What came of asking for one action: its `description`, or the `reason` why there is none.

    `tokens`: paid for all answers to it, refused ones too; `uncounted`: answers of which the server did not say them.
    """

    name: str
    description: str = ""
    reason: str = ""
    tokens: int = 0
    uncounted: int = 0
    cached: bool = False


def ask_descriptions(
    names: Sequence[str],
    server: Server,
    prompt: str = PROMPT,
    *,
    parallel: int = 4,
    attempts: int = 3,
    seen: Callable[[Answer], None] | None = None,
    waits: Callable[[str], None] | None = None,
) -> list[Answer]:
    """Ask a language model for a description of each action, `parallel` at a time; the answers in the same order.

    Good answers are kept in the user's cache as they come: an action that has one there is not asked for again. A bad
    one is asked for again, `attempts` times in all. `seen` is called, in this thread, with each answer as it comes, and
    `waits` with a line that says why, and how long, before a request is tried again.

    Raises `FrosterError` when the client is not installed, the prompt has no `{}`, or the server cannot be reached or
    refuses all requests. When it is stopped, it waits a little for what is under way and paid for.
    """
    answers: SimpleQueue[Answer | Pause | BaseException] = SimpleQueue()
    interview = Interview(server, prompt, attempts, max(3, parallel), answers.put)
    found: dict[str, Answer] = {}

    def take(answer: Answer) -> None:
        found[answer.name] = answer
        if seen is not None:
            seen(answer)

    waiting: SimpleQueue[str] = SimpleQueue()
    wanted = dict.fromkeys(names)
    for name in wanted:
        if description := interview.recall(name):
            take(Answer(name, description, cached=True))
        else:
            waiting.put(name)

    def work() -> None:
        try:
            while True:
                answers.put(interview.ask(waiting.get_nowait()))
        except Empty:
            return
        except BaseException as error:
            answers.put(error)

    # Daemons: whoever does not want to wait for a slow server must be able to leave.
    threads = [Thread(target=work, daemon=True) for _ in range(min(parallel, waiting.qsize()))]
    for thread in threads:
        thread.start()
    try:
        while len(found) < len(wanted):
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, Answer):
                take(answer)
            elif waits is not None:
                waits(answer.line)
    finally:
        interview.halted.set()
        deadline = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while not answers.empty():
            late = answers.get()
            if isinstance(late, Answer) and (late.description or late.tokens):
                take(late)
        interview.client.close()
    return [found[name] for name in names]


@dataclass(frozen=True)
class Pause:
    """Before a request is tried again: `line` says why, and for how long."""

    line: str


class NoAnswerError(Exception):
    """A request failed so often that it was given up; the message says how."""


@dataclass(frozen=True)
class Reply:
    """What a server sent: text, whether it was cut off, and the tokens that it cost, where the server says so."""

    text: str
    is_cut: bool
    tokens: int | None


class Interview:
    """Asks one server with one prompt, from several threads.

    It gives up, `trouble` says why, when `patience` actions in a row got no answer whatever. `paused` is called, in any
    of the threads, before a request is tried again.
    """

    def __init__(
        self, server: Server, prompt: str, attempts: int, patience: int, paused: Callable[[Pause], None]
    ) -> None:
        if importlib.util.find_spec("openai") is None:
            raise FrosterError(needs_extra("Asking a language model", "describe"))
        import openai

        if "{}" not in prompt:
            raise FrosterError("The prompt needs {} where the name of the action goes.")
        if not (server.key.isascii() and server.key.isprintable()):
            raise FrosterError("OPENAI_API_KEY holds letters that no key has; set it anew.")
        self.server, self.prompt, self.attempts, self.patience = server, prompt, attempts, patience
        self.paused = paused
        self.endpoint = check_endpoint(server.endpoint)
        self.client = openai.OpenAI(
            base_url=self.endpoint,
            api_key=server.key or "none",  # local servers want none, the client wants one
            timeout=openai.Timeout(server.timeout, connect=min(server.timeout, CONNECT_TIMEOUT)),
            max_retries=0,
        )
        self.halted = Event()
        self.lock = Lock()
        self.owners: dict[str, str] = {}  # key of a description -> the action that has it
        self.reached = False
        self.failures = 0
        self.trouble = ""

    def recall(self, name: str) -> str:
        """The description of an earlier run, "" where there is none."""
        try:
            kept = json.loads(self.cache_file(name).read_text(encoding="utf-8"))["description"]
        except (OSError, ValueError, LookupError, TypeError):
            return ""
        return kept if isinstance(kept, str) and not self.refusal(name, kept) else ""

    def keep(self, name: str, description: str) -> None:
        content = {"name": name, "description": description, "model": self.server.model}
        try:
            with replace_when_written(self.cache_file(name)) as temporary:
                temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError:
            return  # the description is there all the same, and will be in the result

    def cache_file(self, name: str) -> Path:
        asked = json.dumps([name, self.server.model, self.prompt, self.endpoint])
        return cache_dir() / "descriptions" / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"

    def ask(self, name: str) -> Answer:
        """A description of one action, and what it cost. Raises `FrosterError` where no action could get one."""
        tokens = uncounted = 0
        refusal = ""
        for _ in range(self.attempts):
            if self.halted.is_set() or self.trouble:
                return Answer(name, "", self.trouble or "it was stopped", tokens, uncounted)
            question = self.prompt.replace("{}", name)
            if refusal:
                question += f"\nAn earlier answer could not be used: {refusal}. Please answer anew."
            try:
                reply = self.request(question)
            except NoAnswerError as error:
                return Answer(name, "", str(error), tokens, uncounted)
            tokens, uncounted = tokens + (reply.tokens or 0), uncounted + (reply.tokens is None)
            description = tidy(name, reply.text)
            refusal = "it was cut off" if reply.is_cut else self.refusal(name, description)
            if not refusal:
                self.keep(name, description)
                return Answer(name, description, "", tokens, uncounted)
        return Answer(name, "", refusal, tokens, uncounted)

    def refusal(self, name: str, description: str) -> str:
        """Why a description is of no use, "" if it is; then it belongs to this action, and to no other."""
        if not description:
            return "it was empty"
        if only_repeats(name, description):
            return f"it only repeats the name: {description!r}"
        if is_too_long(name, description):
            return f"it is longer than the {CONTEXT_LENGTH} tokens that CLIP reads of name and description"
        with self.lock:
            owner = self.owners.setdefault(name_key(description), name)
        return "" if owner == name else f"it is the same as that of {owner!r}"

    def request(self, question: str) -> Reply:
        """One answer, tried again after growing pauses. Raises `NoAnswerError`, or `FrosterError` for all questions."""
        import openai

        reason, misread = "", 0
        for attempt in range(self.server.tries):
            wait = None
            try:
                raw = self.client.chat.completions.with_raw_response.create(
                    model=self.server.model, messages=[{"role": "user", "content": question}]
                )
                self.reached = True
                reply = read_reply(raw.text)
                with self.lock:
                    self.failures = 0
                return reply
            except openai.APIStatusError as error:
                self.reached = True
                reason, status = f"the server said {self.told(error)}", error.status_code
                trouble = f"the server {'is busy' if status == 429 else 'failed'} ({status})"
                if status in (400, 413, 422):  # perhaps of this action alone: some servers have a filter
                    break
                if status < 500 and status not in (408, 409, 425, 429):
                    raise FrosterError(f"{self.server.model} at {self.host} cannot be asked: {reason}.") from None
                wait = seconds_of(error.response.headers.get("retry-after"))
            except openai.APITimeoutError:
                reason = trouble = f"the server did not answer within {self.server.timeout:g} seconds"
            except openai.APIConnectionError as error:
                reason = trouble = f"the connection failed: {self.told(error.__cause__ or error)}"
                if not self.reached:
                    raise FrosterError(f"No server answers at {self.host}: {self.told(error.__cause__)}.") from None
            except ValueError:
                trouble = "the server's answer is not of the chat protocol"
                reason, misread = f"{trouble}; its address should end in /v1", misread + 1
            if wait is not None and wait > LONGEST_WAIT:
                self.give_up(f"the server asks to wait {wait:.0f} seconds")
                break
            if attempt + 1 >= self.server.tries or misread > 1:  # no time mends an address
                break
            pause = wait or min(self.server.first_wait * 2**attempt, LONGEST_BACK_OFF)
            self.paused(Pause(f"{trouble}, trying again in {pause:.3g} s"))
            if self.halted.wait(pause):
                break
        with self.lock:
            self.failures += 1
            failures = self.failures
        if failures >= self.patience:
            self.give_up(f"not asked, after {failures} failures in a row; the last: {reason}")
        raise NoAnswerError(reason)

    def give_up(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble

    @property
    def host(self) -> str:
        """Where the server is, without a password that its address may hold."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]

    def told(self, error: BaseException | None) -> str:
        """What an error says, in one line, without the key: some servers repeat it."""
        text = " ".join(str(error).split()).rstrip(".")
        return (text.replace(self.server.key, "***") if self.server.key else text)[:200]


def check_endpoint(endpoint: str) -> str:
    """The address that the protocol's paths are added to. Raises `FrosterError` when it is none."""
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or re.search(r"\s", endpoint):
        raise FrosterError(f"{endpoint!r} is no address of a server, such as http://localhost:11434/v1.")
    return endpoint.rstrip("/").removesuffix("/chat/completions")


def read_reply(body: str) -> Reply:
    """The first choice of a chat completion. Raises `ValueError` when the text is none."""
    try:
        content = json.loads(body)
        choice = content["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError
        is_cut = choice.get("finish_reason") in ("length", "content_filter")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no chat completion") from error
    try:
        tokens = int(content["usage"]["prompt_tokens"]) + int(content["usage"]["completion_tokens"])
    except (LookupError, TypeError, ValueError):
        tokens = None
    return Reply(text, is_cut, tokens)


def seconds_of(retry_after: str | None) -> float | None:
    """How long a `Retry-After` header, a number of seconds or a date, asks to wait; None without one."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(date.tzinfo and UTC)).total_seconds())


def tidy(name: str, text: str) -> str:
    """An answer in one line, without thoughts before it, quotes around it or the name in front of it."""
    text = " ".join(re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).split())
    if re.fullmatch(r'["“][^"“”]*["”]', text):
        text = text[1:-1].strip()
    head, _, rest = text.partition(": ")
    return rest.strip() if rest and name_key(head) == name_key(name) else text


def only_repeats(name: str, description: str) -> bool:
    """Whether a description says no more than the name, in words like "This video shows …"."""
    said, own = (FILLERS.sub("", text.casefold().replace("_", " ")) for text in (description, name))
    return not said.replace(own, "")


def is_too_long(name: str, description: str) -> bool:
    """Whether CLIP would cut the class's prompt, in the longest of the templates or bare."""
    return bool((tokenize(class_prompts(name, description), CONTEXT_LENGTH + 1)[:, -1] != 0).any())
