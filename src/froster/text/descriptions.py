"""Descriptions of actions: from a file, from a language model, or derived from the name."""

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
from froster.text.classes import ClassText, ClassTexts
from froster.text.labels import LabelSet, check_labels, check_pairs
from froster.text.names import name_key
from froster.text.prompts import class_prompts

# The instruction of FROSTER's authors, "Please describe this action in the video", and a length that fits CLIP.
PROMPT = (
    'Please describe this action in the video: "{}". '
    'Answer with one sentence of 15 to 35 words, without line breaks, that begins with "This video" '
    "and says what can be seen: movements, body, objects, place."
)
FILLERS = re.compile(r"\b(a|action|an|doing|is|of|performing|person|showing|shows|someone|the|this|video)\b|[\W_]")
CONNECT_TIMEOUT = 10.0  # seconds
MAX_BACKOFF = 60.0  # seconds
MAX_RETRY_AFTER = 600.0  # seconds that a server may ask us to wait
SHUTDOWN_TIMEOUT = 10.0  # seconds to wait for pending answers when stopped


def read_descriptions(path: str | Path) -> ClassTexts:
    """Descriptions from JSON `{"name": "description"}`, or the released JSON `{"0": "name: description"}`.

    Raises `FrosterError` if the file cannot be read, has another format, or describes an action twice.
    """
    source = f"The descriptions file {path}"
    text = read_text(Path(path), source)
    if not text.lstrip().startswith("{"):
        raise FrosterError(f'{source} must be JSON, {{"name": "description"}}.')
    classes, numbered, _ = classes_of(load_json(text, source), source)
    if numbered and not any(one.description for one in classes):
        raise FrosterError(f"{source}: names and descriptions must be text, not {classes[0].number}.")
    return check_pairs([(one.name, one.description) for one in classes], path)


def merge_descriptions(files: Sequence[Path | str]) -> ClassTexts:
    """The descriptions of several files, such as one for each draw of Kinetics-600.

    Raises `FrosterError` as `read_descriptions`, and where two files describe a class differently.
    """
    merged: dict[str, ClassText] = {}
    described_by: dict[str, Path | str] = {}
    for file in files:
        for name, text in read_descriptions(file).items():
            if merged.setdefault(name, text) != text:
                raise FrosterError(f"{described_by[name]} and {file} describe {name!r} differently; leave one out.")
            described_by.setdefault(name, file)
    return ClassTexts(merged.values())


def describe_labels(
    labels: LabelSet,
    descriptions: Mapping[str, str] | ClassTexts | str | Path,
    source: str | Path = "descriptions",
    warn: bool = True,
) -> ClassTexts:
    """Add descriptions, from a mapping or a file, to labels; names match regardless of case and punctuation.

    A label without a match keeps its description; a warning counts those without any. Raises `FrosterError` with the
    file, or `source`, if no label matches, or a label matches several descriptions.
    """
    if isinstance(descriptions, str | Path):
        source, descriptions = descriptions, read_descriptions(descriptions)
    texts, known = check_labels(labels), check_labels(descriptions, source)
    by_spelling: dict[str, set[str]] = {}
    for name, text in known.items():
        by_spelling.setdefault(name_key(name), set()).add(text.description)
    described = {}
    for name in texts:
        found = {known[name].description} if name in known else by_spelling.get(name_key(name), set())
        if len(found) > 1:
            raise FrosterError(f"{source}: there are {len(found)} descriptions of {name!r}; keep one of them.")
        described[name] = next(iter(found), "")
    if not any(described.values()):
        raise FrosterError(
            f"{source}: no descriptions of these labels; it describes {some(known)}, the labels are {some(texts)}."
        )
    described = {name: description or texts[name].description for name, description in described.items()}
    bare = [name for name, description in described.items() if not description]
    if bare and warn:
        number = f"{len(bare)} of the {len(texts)} labels"
        warnings.warn(f"{source}: no description of {number} ({some(bare)}).", FrosterWarning, stacklevel=2)
    return ClassTexts(ClassText(*pair) for pair in described.items())


def some(names: Iterable[str], number: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")


def plain_description(name: str) -> str:
    """A generic sentence around the name, without new information, as a baseline for descriptions."""
    words = readable_name(name)
    # A verb such as "swing" in "swing baseball" must not match like "juggling".
    is_gerund = re.match(r"\w*[aeiouy]\w*ing\b", words)
    return f"This video shows a person {words}." if is_gerund else f"This video shows the action {words}."


@dataclass(frozen=True)
class Server:
    """A server with OpenAI's chat completions API: its URL up to `/v1`, and the name of a model.

    A request is tried `tries` times. `timeout` of one request and `first_wait` after the first failure (doubled after
    each further one) are in seconds.
    """

    endpoint: str
    model: str
    key: str = field(default="", repr=False)
    tries: int = 8
    timeout: float = 300.0
    first_wait: float = 1.0


@dataclass(frozen=True)
class Answer:
    """The result for one action: its `description`, or the `reason` why there is none.

    `tokens`: total cost, including rejected answers; `uncounted`: answers without a token count from the server.
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
    on_answer: Callable[[Answer], None] | None = None,
    on_retry: Callable[[str], None] | None = None,
) -> list[Answer]:
    """Ask a language model for a description of each action, `parallel` at a time; the answers in the same order.

    Valid answers are cached on disk; cached actions are not requested again. An invalid answer is requested again, up
    to `attempts` times in total. `on_answer` is called (in this thread) with each answer, `on_retry` with a message
    before a request is repeated.

    Raises `FrosterError` if the client is not installed, the prompt has no `{}`, or the server cannot be reached or
    rejects all requests. When interrupted, it waits briefly for pending answers.
    """
    answers: SimpleQueue[Answer | Retry | BaseException] = SimpleQueue()
    client = DescriptionClient(server, prompt, attempts, max(3, parallel), answers.put)
    found: dict[str, Answer] = {}

    def add(answer: Answer) -> None:
        found[answer.name] = answer
        if on_answer is not None:
            on_answer(answer)

    pending: SimpleQueue[str] = SimpleQueue()
    unique_names = dict.fromkeys(names)
    for name in unique_names:
        if description := client.cached(name):
            add(Answer(name, description, cached=True))
        else:
            pending.put(name)

    def work() -> None:
        try:
            while True:
                answers.put(client.ask(pending.get_nowait()))
        except Empty:
            return
        except BaseException as error:
            answers.put(error)

    # Daemon threads, so that a slow server does not block the exit.
    threads = [Thread(target=work, daemon=True) for _ in range(min(parallel, pending.qsize()))]
    for thread in threads:
        thread.start()
    try:
        while len(found) < len(unique_names):
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, Answer):
                add(answer)
            elif on_retry is not None:
                on_retry(answer.line)
    finally:
        client.stopped.set()
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while not answers.empty():
            late = answers.get()
            if isinstance(late, Answer) and (late.description or late.tokens):
                add(late)
        client.openai.close()
    return [found[name] for name in names]


@dataclass(frozen=True)
class Retry:
    """A request will be repeated: `line` says why, and when."""

    line: str


class NoAnswerError(Exception):
    """A request failed on all tries; the message is the last reason."""


@dataclass(frozen=True)
class Reply:
    """A server's reply: its text, whether it was truncated, and its tokens if the server counts them."""

    text: str
    is_truncated: bool
    tokens: int | None


class DescriptionClient:
    """Requests descriptions from one server with one prompt; thread-safe.

    It gives up, and sets `failure`, if `max_failures` actions in a row got no answer. `on_retry` is called, in any
    thread, before a request is repeated.
    """

    def __init__(
        self, server: Server, prompt: str, attempts: int, max_failures: int, on_retry: Callable[[Retry], None]
    ) -> None:
        if importlib.util.find_spec("openai") is None:
            raise FrosterError(needs_extra("Asking a language model", "describe"))
        import openai

        if "{}" not in prompt:
            raise FrosterError("The prompt needs {} in place of the action's name.")
        if not (server.key.isascii() and server.key.isprintable()):
            raise FrosterError("OPENAI_API_KEY has invalid characters; set it again.")
        self.server, self.prompt, self.attempts, self.max_failures = server, prompt, attempts, max_failures
        self.on_retry = on_retry
        self.endpoint = check_endpoint(server.endpoint)
        self.openai = openai.OpenAI(
            base_url=self.endpoint,
            api_key=server.key or "none",  # local servers need none, but the client does
            timeout=openai.Timeout(server.timeout, connect=min(server.timeout, CONNECT_TIMEOUT)),
            max_retries=0,
        )
        self.stopped = Event()
        self.lock = Lock()
        self.owners: dict[str, str] = {}  # name_key of a description -> its action
        self.reached = False
        self.failures = 0
        self.failure = ""

    def cached(self, name: str) -> str:
        """The description from an earlier run, or ""."""
        try:
            text = json.loads(self.cache_file(name).read_text(encoding="utf-8"))["description"]
        except (OSError, ValueError, LookupError, TypeError):
            return ""
        return text if isinstance(text, str) and not self.rejection(name, text) else ""

    def store(self, name: str, description: str) -> None:
        content = {"name": name, "description": description, "model": self.server.model}
        try:
            with replace_when_written(self.cache_file(name)) as temporary:
                temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError:
            return  # the description is still in the result

    def cache_file(self, name: str) -> Path:
        request = json.dumps([name, self.server.model, self.prompt, self.endpoint])
        return cache_dir() / "descriptions" / f"{hashlib.sha256(request.encode()).hexdigest()}.json"

    def ask(self, name: str) -> Answer:
        """A description of one action, and its cost. Raises `FrosterError` if the server rejects all requests."""
        tokens = uncounted = 0
        rejection = ""
        for _ in range(self.attempts):
            if self.stopped.is_set() or self.failure:
                return Answer(name, "", self.failure or "it was stopped", tokens, uncounted)
            question = self.prompt.replace("{}", name)
            if rejection:
                question += f"\nYour previous answer was rejected: {rejection}. Please answer again."
            try:
                reply = self.request(question)
            except NoAnswerError as error:
                return Answer(name, "", str(error), tokens, uncounted)
            tokens, uncounted = tokens + (reply.tokens or 0), uncounted + (reply.tokens is None)
            description = tidy(name, reply.text)
            rejection = "it was cut off" if reply.is_truncated else self.rejection(name, description)
            if not rejection:
                self.store(name, description)
                return Answer(name, description, "", tokens, uncounted)
        return Answer(name, "", rejection, tokens, uncounted)

    def rejection(self, name: str, description: str) -> str:
        """Why a description is invalid, or "" if it is valid; then it is reserved for this action."""
        if not description:
            return "it was empty"
        if only_repeats(name, description):
            return f"it only repeats the name: {description!r}"
        if is_too_long(name, description):
            return f"name and description exceed CLIP's maximum of {CONTEXT_LENGTH} tokens"
        with self.lock:
            owner = self.owners.setdefault(name_key(description), name)
        return "" if owner == name else f"it is identical to that of {owner!r}"

    def request(self, question: str) -> Reply:
        """One reply, with exponential backoff. Raises `NoAnswerError`, or `FrosterError` if no request can succeed."""
        import openai

        reason, misread = "", 0
        for attempt in range(self.server.tries):
            wait = None
            try:
                raw = self.openai.chat.completions.with_raw_response.create(
                    model=self.server.model, messages=[{"role": "user", "content": question}]
                )
                self.reached = True
                reply = read_reply(raw.text)
                with self.lock:
                    self.failures = 0
                return reply
            except openai.APIStatusError as error:
                self.reached = True
                reason, status = f"the server said {self.message_of(error)}", error.status_code
                problem = f"the server {'is busy' if status == 429 else 'failed'} ({status})"
                if status in (400, 413, 422):  # perhaps only for this action: some servers filter content
                    break
                if status < 500 and status not in (408, 409, 425, 429):
                    raise FrosterError(f"{self.server.model} at {self.host} cannot be asked: {reason}.") from None
                wait = seconds_of(error.response.headers.get("retry-after"))
            except openai.APITimeoutError:
                reason = problem = f"the server did not answer within {self.server.timeout:g} seconds"
            except openai.APIConnectionError as error:
                reason = problem = f"the connection failed: {self.message_of(error.__cause__ or error)}"
                if not self.reached:
                    raise FrosterError(
                        f"No server answers at {self.host}: {self.message_of(error.__cause__)}."
                    ) from None
            except ValueError:
                problem = "the server's answer is not a chat completion"
                reason, misread = f"{problem}; its address should end in /v1", misread + 1
            if wait is not None and wait > MAX_RETRY_AFTER:
                self.give_up(f"the server asks to wait {wait:.0f} seconds")
                break
            if attempt + 1 >= self.server.tries or misread > 1:  # waiting does not fix a wrong address
                break
            pause = wait or min(self.server.first_wait * 2**attempt, MAX_BACKOFF)
            self.on_retry(Retry(f"{problem}, trying again in {pause:.3g} s"))
            if self.stopped.wait(pause):
                break
        with self.lock:
            self.failures += 1
            failures = self.failures
        if failures >= self.max_failures:
            self.give_up(f"not requested, after {failures} failures in a row, the last: {reason}")
        raise NoAnswerError(reason)

    def give_up(self, failure: str) -> None:
        self.failure = self.failure or failure

    @property
    def host(self) -> str:
        """Host of the server, without credentials in its URL."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]

    def message_of(self, error: BaseException | None) -> str:
        """An error's message in one line, without the API key, which some servers repeat."""
        text = " ".join(str(error).split()).rstrip(".")
        return (text.replace(self.server.key, "***") if self.server.key else text)[:200]


def check_endpoint(endpoint: str) -> str:
    """The base URL of the API. Raises `FrosterError` if it is invalid."""
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or re.search(r"\s", endpoint):
        raise FrosterError(f"{endpoint!r} is not a server's address, such as http://localhost:11434/v1.")
    return endpoint.rstrip("/").removesuffix("/chat/completions")


def read_reply(body: str) -> Reply:
    """The first choice of a chat completion. Raises `ValueError` if the text is not one."""
    try:
        content = json.loads(body)
        choice = content["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError
        is_truncated = choice.get("finish_reason") in ("length", "content_filter")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not a chat completion") from error
    try:
        tokens = int(content["usage"]["prompt_tokens"]) + int(content["usage"]["completion_tokens"])
    except (LookupError, TypeError, ValueError):
        tokens = None
    return Reply(text, is_truncated, tokens)


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds to wait by a `Retry-After` header (seconds or a date); None without one."""
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
    """An answer in one line, without reasoning, surrounding quotes or the leading name."""
    text = " ".join(re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).split())
    if re.fullmatch(r'["“][^"“”]*["”]', text):
        text = text[1:-1].strip()
    head, _, rest = text.partition(": ")
    return rest.strip() if rest and name_key(head) == name_key(name) else text


def only_repeats(name: str, description: str) -> bool:
    """Whether a description only repeats the name, in words like "This video shows …"."""
    content, own = (FILLERS.sub("", text.casefold().replace("_", " ")) for text in (description, name))
    return not content.replace(own, "")


def is_too_long(name: str, description: str) -> bool:
    """Whether a prompt of the class, with any template, exceeds CLIP's maximum number of tokens."""
    return bool((tokenize(class_prompts(ClassText(name, description)), CONTEXT_LENGTH + 1)[:, -1] != 0).any())
