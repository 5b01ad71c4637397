"""`froster describe` against a server of the chat protocol in a thread: what it is asked, and what it answers."""

import itertools
import json
import multiprocessing
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from froster import cli
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.openai import RELEASES, mark_official
from froster.checkpoints.own import save_checkpoint
from froster.data.puppets import write_videos
from froster.errors import FrosterError
from froster.models import load_model
from froster.shipped import existing_recipe
from froster.text import descriptions
from froster.text.descriptions import PROMPT, Answer, Server, ask_descriptions
from froster.text.prompts import read_templates
from froster.training.recipe import TrainRecipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
FROSTER = Path(sys.executable).with_name("froster")
KEY = "sk-very-secret-123"
NAMES = [f"action {letter}" for letter in "abcdef"]


@dataclass
class Sent:
    """One response. `body` None closes the connection without any."""

    body: str | None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def completion(
    text: str | None, finish: str = "stop", usage: tuple[int, int] | None = (10, 5), delay: float = 0
) -> Sent:
    content: dict[str, Any] = {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": finish}]}
    if usage:
        content["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Sent(json.dumps(content), delay=delay)


def good(name: str) -> str:
    return f"This video shows someone moving hands and feet as in {name}."


@dataclass
class Asked:
    name: str
    question: str
    key: str
    model: str
    time: float


class ChatServer(ThreadingHTTPServer):
    """`answer(name, number)` is what it sends to the number-th request, from 0, about an action."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Callable[[str, int], Sent] = lambda name, number: completion(good(name))
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        self.open = self.most_open = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def counts(self) -> Counter[str]:
        return Counter(asked.name for asked in self.asked)


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = sent["messages"][0]["content"]
        quoted = re.search(r'"(.*?)"', question)
        name = quoted[1] if quoted else question
        with self.server.lock:
            number = self.server.counts[name]
            self.server.asked.append(
                Asked(name, question, self.headers["Authorization"], sent["model"], time.monotonic())
            )
            self.server.open += 1
            self.server.most_open = max(self.server.most_open, self.server.open)
        response = self.server.answer(name, number)
        time.sleep(response.delay)
        with self.server.lock:
            self.server.open -= 1
        if self.path != "/v1/chat/completions":
            response = Sent("{}", 404)
        if response.body is None:
            self.close_connection = True
            return
        try:
            self.send_response(response.status)
            for key, value in {"Content-Type": "application/json", **response.headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(response.body.encode())))
            self.end_headers()
            self.wfile.write(response.body.encode())
        except OSError:  # the client has gone
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    chat = ChatServer()
    threading.Thread(target=chat.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield chat
    chat.shutdown()
    chat.server_close()


def ask(chat: ChatServer, names: list[str] = NAMES, **settings: Any) -> dict[str, Answer]:
    of_server = {key: settings.pop(key) for key in ("tries", "timeout", "key") if key in settings}
    asked = Server(chat.endpoint, "small", **{"tries": 3, "first_wait": 0.01, **of_server})
    answers = ask_descriptions(names, asked, **settings)
    assert [answer.name for answer in answers] == names
    return {answer.name: answer for answer in answers}


@dataclass
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def froster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Result]:
    """The command line in this process and in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["froster", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return Result(int(stopped.value.code or 0), *capsys.readouterr())

    return run


def test_descriptions_in_the_order_of_the_labels_and_what_they_cost(
    server: ChatServer, froster: Callable[..., Result], tmp_path: Path
) -> None:
    server.answer = lambda name, number: completion(good(name), delay=0.05 * (name == "action a"))
    result = froster("describe", ", ".join(NAMES), "--endpoint", server.endpoint, "--model", "small")
    assert result.code == 0, result.err
    content = json.loads((tmp_path / "descriptions.json").read_text(encoding="utf-8"))
    assert list(content.items()) == [(name, good(name)) for name in NAMES]
    assert result.out == "descriptions.json\n"
    assert result.err == "6 of 6 actions described by small; 90 tokens paid.\n"
    assert {asked.question for asked in server.asked} == {PROMPT.replace("{}", name) for name in NAMES}
    assert {(asked.key, asked.model) for asked in server.asked} == {("Bearer none", "small")}


def test_nothing_is_paid_for_twice(server: ChatServer, froster: Callable[..., Result], tmp_path: Path) -> None:
    command = ("--endpoint", server.endpoint, "--model", "small", "--out", "d.json")
    froster("describe", "action a, action b", *command)
    first = (tmp_path / "d.json").read_bytes()
    again = froster("describe", "action a, action b", *command)
    assert again.err == "2 of 2 actions described by small, 2 of them from the cache; 0 tokens paid.\n"
    assert (tmp_path / "d.json").read_bytes() == first
    (tmp_path / "labels.txt").write_text("action c\naction b\n")
    more = froster("describe", "labels.txt", *command)
    assert more.err == "2 of 2 actions described by small, 1 of them from the cache; 15 tokens paid.\n"
    assert list(json.loads((tmp_path / "d.json").read_text())) == ["action c", "action b"]
    assert server.counts == {"action a": 1, "action b": 1, "action c": 1}
    # Another model, prompt or address is another question.
    froster("describe", "action a,", *command[:3], "large")
    froster("describe", "action a,", *command, "--prompt", 'Say what "{}" is.')
    froster(
        "describe", "action a,", "--endpoint", server.endpoint.replace("127.0.0.1", "localhost"), "--model", "small"
    )
    assert server.counts["action a"] == 4
    froster("describe", "action a,", "--endpoint", f"{server.endpoint}/chat/completions", "--model", "small")
    assert server.counts["action a"] == 4


def test_a_few_at_a_time(server: ChatServer) -> None:
    server.answer = lambda name, number: completion(good(name), delay=0.05)
    ask(server, parallel=3)
    assert server.most_open == 3
    server.most_open = 0
    ask(server, prompt='One by one: "{}"', parallel=1)
    assert server.most_open == 1


def test_prompt_from_a_file(server: ChatServer, froster: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text('Answer in JSON-free words {no braces}: "{}"', encoding="utf-8")
    command = ("describe", "action a,", "--endpoint", server.endpoint, "--model", "small", "--prompt")
    assert froster(*command, "prompt.txt").code == 0
    assert server.asked[0].question == 'Answer in JSON-free words {no braces}: "action a"'
    (tmp_path / "prompt.txt").write_text("Describe it.")
    assert froster(*command, "prompt.txt").err == "froster: The prompt needs {} in place of the action's name.\n"
    missing = froster(*command, "Describe it.")
    assert "--prompt Describe it. has no {} for the name and, as a file, cannot be read: No such" in missing.err
    assert missing.code == 2
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (completion(""), "it was empty"),
        (completion(None), "it was empty"),
        (completion("This video shows a person who", finish="length"), "it was cut off"),
        (completion("Action a."), "it only repeats the name: 'Action a.'"),
        (completion("This video shows " + "many " * 80), "exceed CLIP's maximum of 77 tokens"),
        (completion(good("action b")), "it is identical to that of 'action b'"),
    ],
    ids=["empty", "null", "cut", "name", "long", "same"],
)
def test_a_bad_answer_is_refused_asked_for_again_and_at_last_reported(
    server: ChatServer, froster: Callable[..., Result], tmp_path: Path, bad: Sent, reason: str
) -> None:
    server.answer = lambda name, number: bad if name == "action a" else completion(good(name))
    names = "action b, action a, action c"
    command = ("describe", names, "--endpoint", server.endpoint, "--model", "small", "--parallel", 1)
    result = froster(*command)
    assert result.code == 1
    assert server.counts == {"action a": 3, "action b": 1, "action c": 1}
    questions = [asked.question for asked in server.asked if asked.name == "action a"]
    assert questions[1].startswith(questions[0])
    assert "Your previous answer was rejected: " in questions[1]
    assert list(json.loads((tmp_path / "descriptions.json").read_text())) == ["action b", "action c"]
    summary, line = result.err.splitlines()
    assert summary == "2 of 3 actions described by small; 75 tokens paid."
    assert line.startswith("  action a: ")
    assert reason in line
    # The good ones are kept; a good answer at the second try is enough.
    server.answer = lambda name, number: bad if number == 3 else completion(good(name))
    assert froster(*command).err == "3 of 3 actions described by small, 2 of them from the cache; 30 tokens paid.\n"
    assert server.counts == {"action a": 5, "action b": 1, "action c": 1}


def test_nothing_good_writes_nothing(server: ChatServer, froster: Callable[..., Result], tmp_path: Path) -> None:
    server.answer = lambda name, number: completion("", usage=None)
    result = froster("describe", "action a,", "--endpoint", server.endpoint, "--model", "small")
    assert (result.code, result.out) == (1, "")
    assert "0 tokens paid; 3 answers without a token count." in result.err
    assert not (tmp_path / "descriptions.json").exists()


def test_the_same_answer_from_the_cache_is_asked_for_again(server: ChatServer) -> None:
    server.answer = lambda name, number: completion(good("all"))
    assert ask(server, ["action a"])["action a"].description
    assert ask(server, ["action b"])["action b"].description
    server.answer = lambda name, number: completion(good(name))
    both = ask(server, ["action a", "action b"])
    assert [(answer.description, answer.cached) for answer in both.values()] == [
        (good("all"), True),
        (good("action b"), False),
    ]


def test_damaged_cache_is_asked_for_again(server: ChatServer, own_cache: Path) -> None:
    ask(server, ["action a"])
    (file,) = (own_cache / "descriptions").iterdir()
    for content in ("", "[]", '{"description": 3}', '{"description": ""}', "\xff"):
        file.write_text(content, encoding="latin-1")
        assert ask(server, ["action a"])["action a"].description == good("action a")
    assert server.counts["action a"] == 6


@pytest.mark.parametrize(
    ("trouble", "times"),
    [
        (Sent("{}", 429), 2),
        (Sent("oops", 500, {"Content-Type": "text/plain"}), 2),
        (Sent("{}", 503), 2),
        (Sent(None), 2),
        (Sent("{nonsense"), 1),
        (Sent("<html>hello</html>", 200, {"Content-Type": "text/html"}), 1),
        (Sent("{}"), 1),
        (completion(good("late"), delay=0.7), 2),
    ],
    ids=["429", "500", "503", "closed", "nonsense", "html", "empty", "late"],
)
def test_a_busy_or_broken_server_is_asked_again(server: ChatServer, trouble: Sent, times: int) -> None:
    """After a good answer, as where a server is restarted: one that nothing was ever heard of is an error."""
    server.answer = lambda name, number: trouble if name == "action b" and number < times else completion(good(name))
    answers = ask(server, NAMES[:3], parallel=1, timeout=0.5 if trouble.delay else 10)
    assert {answer.description for answer in answers.values()} == {good(name) for name in NAMES[:3]}
    assert server.counts == {"action a": 1, "action b": times + 1, "action c": 1}
    assert sum(answer.tokens for answer in answers.values()) == 45


def test_an_address_of_another_protocol_is_left_soon(server: ChatServer) -> None:
    server.answer = lambda name, number: Sent("<html>hello</html>", 200, {"Content-Type": "text/html"})
    answers = ask(server, tries=8, parallel=1)
    assert server.counts == dict.fromkeys(NAMES[:3], 2)
    assert {answers[name].reason for name in NAMES[:3]} == {
        "the server's answer is not a chat completion; its address should end in /v1"
    }


def test_who_waits_is_told_why(server: ChatServer, froster: Callable[..., Result]) -> None:
    troubles = [Sent("{}", 429, {"Retry-After": "0.2"}), Sent("{}", 503), Sent("{nonsense")]
    server.answer = lambda name, number: troubles[number] if number < 1 else completion(good(name))
    told: list[str] = []
    ask(server, ["action a"], on_retry=told.append)
    assert told == ["the server is busy (429), trying again in 0.2 s"]
    server.asked.clear()
    server.answer = lambda name, number: troubles[number + 1] if number < 2 else completion(good(name))
    ask(server, ["action b"], on_retry=told.append)
    assert told[1:] == [
        "the server failed (503), trying again in 0.01 s",
        "the server's answer is not a chat completion, trying again in 0.02 s",
    ]
    server.answer = lambda name, number: troubles[0] if number < 1 else completion(good(name))
    result = froster("describe", "action c", "--endpoint", server.endpoint, "--model", "small")
    assert result.err.splitlines()[0] == "the server is busy (429), trying again in 0.2 s"


def test_a_name_given_twice_is_asked_for_once(server: ChatServer) -> None:
    ask_descriptions(["zz1"], Server(server.endpoint, "small"))  # from the cache, too
    seen: list[Answer] = []
    of_server = Server(server.endpoint, "small", tries=2, timeout=5)
    answers = ask_descriptions(["zz1", "zz1", "zz2", "zz2"], of_server, on_answer=seen.append)
    assert [answer.description for answer in answers] == [good(name) for name in ("zz1", "zz1", "zz2", "zz2")]
    assert server.counts == {"zz1": 1, "zz2": 1}
    assert len(seen) == 2


def test_pauses_grow_and_retry_after_is_honored(server: ChatServer) -> None:
    headers = [{}, {}, {"Retry-After": "1"}, {}]
    server.answer = lambda name, number: Sent("{}", 429, headers[number]) if number < 4 else completion(good(name))
    ask(server, ["action a"], tries=5)
    times = [asked.time for asked in server.asked]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for pause, least in zip(pauses, (0.01, 0.02, 1.0, 0.08), strict=True):
        assert least <= pause < least + 0.5


def test_a_server_that_asks_for_too_long_a_pause_is_left(server: ChatServer) -> None:
    server.answer = lambda name, number: Sent("{}", 429, {"Retry-After": "86400"})
    answers = ask(server, parallel=1)
    assert server.counts == {"action a": 1}
    assert "429" in answers["action a"].reason
    assert {answers[name].reason for name in NAMES[1:]} == {"the server asks to wait 86400 seconds"}


def test_one_action_that_always_fails_does_not_stop_the_others(server: ChatServer) -> None:
    server.answer = lambda name, number: Sent("{}", 500) if name == "action b" else completion(good(name))
    answers = ask(server, parallel=1)
    assert [name for name, answer in answers.items() if not answer.description] == ["action b"]
    assert "the server said Error code: 500" in answers["action b"].reason
    assert server.counts["action b"] == 3


def test_a_server_that_fails_for_all_is_left_after_a_few(server: ChatServer) -> None:
    server.answer = lambda name, number: Sent("{}", 500)
    answers = ask(server, parallel=1)
    assert server.counts == dict.fromkeys(NAMES[:3], 3)
    assert "not requested, after 3 failures in a row" in answers["action d"].reason


def test_a_request_that_the_server_refuses_is_not_repeated(server: ChatServer) -> None:
    refused = Sent('{"error": {"message": "content filter"}}', 400)
    server.answer = lambda name, number: refused if name == "action b" else completion(good(name))
    assert "content filter" in ask(server)["action b"].reason
    assert server.counts == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_key_is_sent_and_never_shown(
    server: ChatServer, froster: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, own_cache: Path, status: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    echo = json.dumps({"error": {"message": f"no access with {KEY}"}})
    server.answer = lambda name, number: Sent(echo, status) if name == "action b" else completion(good(name))
    command = ("describe", "action a, action b", "--endpoint", server.endpoint, "--model", "small", "--parallel", 1)
    result = froster(*command)
    assert result.code == 2
    assert re.search(
        rf"froster: small at 127\.0\.0\.1:\d+ cannot be asked: .*{status}.*no access with \*\*\*", result.err
    )
    assert {asked.key for asked in server.asked} == {f"Bearer {KEY}"}
    assert KEY not in result.out + result.err + repr(Server(server.endpoint, "small", KEY))
    assert not any(KEY.encode() in file.read_bytes() for file in own_cache.rglob("*.json"))
    # What came before is paid for and kept.
    server.answer = lambda name, number: completion(good(name))
    assert "1 of them from the cache; 15 tokens paid" in froster(*command).err
    monkeypatch.setenv("OPENAI_API_KEY", "clé")
    assert froster(*command).err == "froster: OPENAI_API_KEY has invalid characters; set it again.\n"


def test_a_killed_run_goes_on_where_it_was(server: ChatServer, own_cache: Path) -> None:
    server.answer = lambda name, number: completion(good(name), delay=0 if name < "action d" else 30)
    process = multiprocessing.get_context("fork").Process(target=ask, args=(server,))
    process.start()
    deadline = time.monotonic() + 60
    while len(list((own_cache / "descriptions").glob("[!.]*"))) < 3 or len(server.asked) < 6:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    server.answer = lambda name, number: completion(good(name))
    answers = ask(server)
    assert [answer.cached for answer in answers.values()] == [True] * 3 + [False] * 3
    assert server.counts == dict.fromkeys(NAMES[:3], 1) | dict.fromkeys(NAMES[3:], 2)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_keeps_what_is_under_way_and_says_what_was_paid(
    server: ChatServer, own_cache: Path, tmp_path: Path
) -> None:
    stopped = threading.Event()

    def answer(name: str, number: int) -> Sent:
        """The first is answered at once, the others a second after the signal."""
        if name > "action a":
            stopped.wait(120)
        return completion(good(name), usage=(1000, 500), delay=1 * (name > "action a"))

    server.answer = answer
    command = [FROSTER, "describe", ", ".join(NAMES), "--endpoint", server.endpoint, "--model", "small"]
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    process = subprocess.Popen(
        [*command, "--parallel", "2"], stdout=terminal, stderr=terminal, cwd=tmp_path, env=environment
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            shown += chunk
            if not stopped.is_set() and b"1,500 tokens" in shown:
                process.send_signal(signal.SIGINT)
                stopped.set()
    except OSError:  # Linux says so when the other end has closed
        pass
    assert process.wait(timeout=300) == 130, shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "Asking small (1,500 tokens)" in text
    kept = len(list((own_cache / "descriptions").glob("[!.]*")))
    assert 2 <= kept < 6  # the first, and those that were under way
    assert f"{kept} of 6 actions described by small; {1500 * kept:,} tokens paid." in text
    assert "Stopped; the same command resumes with the remaining actions." in text
    assert "Traceback" not in text
    assert len(server.asked) == kept


def test_plain_phrases_are_named_as_such(froster: Callable[..., Result], tmp_path: Path) -> None:
    result = froster("describe", "playing violin, brush_hair", "--plain", "--out", "sub/plain.json")
    assert (result.code, result.out) == (0, "sub/plain.json\n")
    assert result.err == ("2 generic sentences around the names, without a language model.\n")
    assert json.loads((tmp_path / "sub" / "plain.json").read_text()) == {
        "playing violin": "This video shows a person playing violin.",
        "brush_hair": "This video shows the action brush hair.",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a, b"], "Give a server and its model, --endpoint URL --model NAME"),
        (["a, b", "--model", "m"], "Give a server and its model"),
        (["a, b", "--plain", "--model", "m"], "--plain uses no server"),
        (["a, b", "--plain", "--out", "."], "--out . is a folder"),
        (["none.txt", "--plain"], "The labels file none.txt cannot be read: No such file"),
        (["ucf", "--plain"], "did you mean the vocabulary 'ucf-101'"),
        (["a, b", "--model", "m", "--endpoint", "localhost:1"], "'localhost:1' is not a server's address"),
        (["a, b", "--model", "m", "--endpoint", "http://127.0.0.1:1/v1"], "No server answers at 127.0.0.1:1: "),
        (["a, b", "--model", "m", "--endpoint", "http://me:pass@127.0.0.1:1/v1"], "answers at 127.0.0.1:1: "),
    ],
)
def test_user_errors_are_one_line(
    server: ChatServer, froster: Callable[..., Result], arguments: list[str], message: str
) -> None:
    result = froster("describe", *arguments)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert message in line


def test_missing_client_is_named_with_its_extra(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FrosterError, match=r'the extra describe: pip install "froster-video\[describe\]"'):
        ask(server)


@pytest.fixture
def folder(tmp_path: Path, own_cache: Path) -> Path:
    """What the commands of docs/words.md name; the weights are small and random."""
    write_videos(tmp_path / "videos", ["juggling balls", "walking"], videos=1, frames=6, size=64)
    (tmp_path / "clip.mp4").write_bytes((tmp_path / "videos" / "walking" / "0.mp4").read_bytes())
    (tmp_path / "my-test-clips.csv").write_text("path,label\nclip.mp4,walking\nvideos/juggling-balls/0.mp4,Juggling\n")
    (tmp_path / "actions.txt").write_text("walking\nJuggling\n")
    (tmp_path / "templates.txt").write_text(re.search(r"^```text\n(.*?)^```", PAGE, flags=re.M | re.S)[1])
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    torch.manual_seed(0)
    state = Clip(ClipConfig(32, 16, 64, 1, 1, 64, 1, 1, 32)).state_dict()
    renames = (("text.", ""), ("blocks.", "transformer.resblocks."), ("in_proj.", "in_proj_"))
    for ours, theirs in (*renames, ("mlp.0", "mlp.c_fc"), ("mlp.2", "mlp.c_proj")):
        state = {key.replace(ours, theirs, 1): value for key, value in state.items()}
    (own_cache / "clip").mkdir(parents=True)
    torch.save(state, own_cache / "clip" / "ViT-B-16.pt")
    mark_official(own_cache / "clip" / "ViT-B-16.pt", RELEASES["vit-b-16"][0])
    return tmp_path


def test_commands_of_the_page(server: ChatServer, froster: Callable[..., Result], folder: Path) -> None:
    server.answer = lambda name, number: completion(f"This video shows someone with hands and feet at {name} {number}.")
    commands = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", PAGE.replace("\\\n", ""), flags=re.M | re.S)
        for line in block.splitlines()
    ]
    ran = Counter()
    for line in commands:
        _, command, *rest = [
            word.replace("http://localhost:11434/v1", server.endpoint) for word in shlex.split(line, comments=True)
        ]
        ran[command] += 1
        if command == "train":
            data = TrainRecipe.read(existing_recipe(Path(rest[0])), rest[1:]).data
            assert (data.descriptions, data.templates) == (Path("descriptions.json"), Path("templates.txt"))
            continue
        result = froster(command, *rest)
        assert result.code == 0, result.err
        assert "warning" not in result.err
    assert ran == {"describe": 4, "predict": 2, "evaluate": 1, "train": 1}
    assert len(json.loads((folder / "ucf-101.json").read_text())) == 101
    assert server.counts.keys() >= {"walking", "Juggling", "apply eye makeup"}
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
    exec(code.replace('["juggling", "fencing"]', '["juggling", "walking"]'), {})


def test_words_of_the_user_decide_the_result(froster: Callable[..., Result], folder: Path) -> None:
    """Files of descriptions and templates change what is predicted and evaluated as they change the class matrix."""
    (folder / "d.json").write_text(json.dumps({"Walking": "on two feet", "JUGGLING": "with balls"}))
    (folder / "l.json").write_text(json.dumps({"walking": "on two feet", "Juggling": "with balls"}))
    predict = ("predict", "clip.mp4", "--model", "vit-b-16", "--views", 1)
    evaluate = ("evaluate", "vit-b-16", "--data", "my-test-clips.csv", "--views", 1, "--json")
    plain = froster(*predict, "--labels-file", "actions.txt").out
    described = froster(*predict, "--labels-file", "actions.txt", "--descriptions", "d.json").out
    assert described == froster(*predict, "--labels-file", "l.json").out != plain
    assert froster(*predict, "--labels", "walking, Juggling", "--templates", "templates.txt").out not in (
        plain,
        described,
    )
    report = json.loads(froster(*evaluate, "--descriptions", "d.json", "--templates", "templates.txt").out)
    assert (report["descriptions"], report["templates"]) == (2, 2)
    report = json.loads(froster(*evaluate).out)
    assert (report["descriptions"], report["templates"]) == (0, 28)
    split = ("--base", "walking", "--novel", "Juggling", "--descriptions", "half.json")
    (folder / "half.json").write_text(json.dumps({"walking": "on two feet"}))
    half = froster(*evaluate, *split)
    assert half.err == "warning: half.json: no description of 1 of the 2 labels (Juggling).\n"
    assert json.loads(half.out)["descriptions"] == 1
    (folder / "none.json").write_text(json.dumps({"fencing": "with swords"}))
    for command in ((*predict, "--labels", "walking, Juggling"), evaluate):
        wrong = froster(*command, "--descriptions", "none.json")
        assert (wrong.code, wrong.out) == (2, "")
        assert "none.json: no descriptions of these labels" in wrong.err
        assert "templates.txt, line 1" in froster(*command, "--templates", bad_templates(folder)).err
    learned = froster(*evaluate, "--student", "vpt", "--templates", "templates.txt")
    told = learned.err.splitlines()
    assert "warning: VPT has learned prompts, so the templates are not used." in told
    assert [line.partition(":")[0] for line in told] == ["warning", "warning"]  # the other: VPT is not trained


def bad_templates(folder: Path) -> Path:
    (folder / "bad").mkdir(exist_ok=True)
    (folder / "bad" / "templates.txt").write_text("no place\n")
    return Path("bad/templates.txt")


def test_a_run_is_tested_with_the_templates_that_it_was_trained_with(
    froster: Callable[..., Result], folder: Path
) -> None:
    model, labels = load_model("puppets"), {"walking": "", "Juggling": ""}
    model.labels, model.templates = labels, read_templates(folder / "templates.txt")
    save_checkpoint(model, folder / "run" / "model.safetensors")
    said = "Using the 2 templates that run was trained with."
    evaluated = froster("evaluate", "run", "--data", "my-test-clips.csv", "--views", 1, "--json")
    assert said in evaluated.err
    assert json.loads(evaluated.out)["templates"] == 2
    usual = froster("predict", "clip.mp4", "--model", "puppets", "--labels-file", "actions.txt", "--views", 1).out
    own = froster("predict", "clip.mp4", "--model", "run", "--views", 1)
    assert said in own.err
    assert own.out != usual


def test_a_checkpoint_from_before_names_a_file_of_templates(froster: Callable[..., Result], folder: Path) -> None:
    recipe = TrainRecipe.read(existing_recipe(Path("froster-puppets")), ["data.templates=templates.txt"])
    path = folder / "old" / "model.safetensors"
    metadata = {"recipe": recipe.model_dump_json(), "labels": json.dumps({"walking": "", "Juggling": ""})}
    save_checkpoint(load_model("puppets"), path, **metadata)
    with safetensors.safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        kept = {key: value for key, value in file.metadata().items() if key not in ("templates", "clip_sampling")}
    safetensors.torch.save_file(tensors, path, kept)
    usual = froster("predict", "clip.mp4", "--model", "puppets", "--labels-file", "actions.txt", "--views", 1).out
    old = froster("predict", "clip.mp4", "--model", "old", "--views", 1)
    assert "was trained with the templates in templates.txt, which it lacks: pass them as templates" in old.err
    assert old.out == usual
