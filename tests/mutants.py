"""Mutation testing of losses, interpolation, schedule and protocols: `python tests/mutants.py OUT.json [MODULE …]`.

cosmic-ray makes the mutants: of every place in the code where its operators apply, type annotations left out, one
mutant at random. Each runs the tests of its module in a child process that is forked after the imports, because a
process of its own would spend most of its time importing PyTorch. OUT.json holds every mutant and whether it survived;
the same command continues an interrupted run.
"""

import argparse
import ast
import difflib
import importlib.abc
import importlib.util
import json
import os
import random
import shlex
import signal
import sys
import time
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import cosmic_ray.plugins
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "froster"
SEED = 0
LOSSES = (
    "tests/losses/test_fine_tuning.py",
    "tests/losses/test_froster.py",
    "tests/training/test_objective.py -k 'not test_a_whole_step'",
    "tests/training/test_other_teacher.py -k projector",
)
VALUES = "tests/protocols/test_results.py -k values"
# By module, the arguments of pytest for its tests, one run after the other, those that train left out.
TESTS: dict[str, tuple[str, ...]] = {
    "training/schedule.py": ("tests/training/test_schedule.py",),
    "losses/batch.py": LOSSES,
    "losses/fine_tuning.py": LOSSES,
    "losses/froster.py": LOSSES,
    "losses/open_vclip.py": ("tests/test_interpolation.py -k 'not average_and_patched'",),
    "interpolation.py": ("tests/test_interpolation.py -k 'not average_and_patched'",),
    "protocols/parts.py": ("tests/protocols/test_parts.py", VALUES),
    "protocols/results.py": ("tests/protocols/test_results.py",),
    "protocols/data.py": ("tests/protocols/test_data.py", "tests/protocols/test_base_to_novel.py -k published", VALUES),
    "protocols/models.py": ("tests/protocols/test_models.py", VALUES),
    "protocols/base_to_novel.py": (
        "tests/protocols/test_base_to_novel.py -k fake",
        "tests/protocols/test_base_to_novel.py -k 'published or halves or novel'",
        VALUES,
    ),
    "protocols/cross_dataset.py": (
        "tests/protocols/test_cross_dataset.py -k 'not (evaluation or refused or kinetics_600_has_three)'",
        VALUES,
    ),
    "protocols/trade_off.py": ("tests/protocols/test_trade_off.py -k 'fake or plot'", VALUES),
    "protocols/scores.py": ("tests/protocols/test_scores.py", VALUES),
    "protocols/reference.py": ("tests/protocols/test_reference.py",),
}
# Mutants that no test can kill, by module and changed line, and why.
EQUIVALENT: dict[tuple[str, str], str] = {
    ("losses/froster.py", 'if distance <= "cosine":'): "the other distances come after it in the alphabet",
    (
        "losses/open_vclip.py",
        "for parameter, student in zip(parameters, own, strict=False):",
    ): "`own` is made of `parameters`",
    (
        "protocols/trade_off.py",
        "trade_off.clips[column], trade_off.classes[column] = found[ 1].clips, found[0].classes",
    ): "every model is tested on the same videos",
    (
        "protocols/trade_off.py",
        "trade_off.clips[column], trade_off.classes[column] = found[0].clips, found[ 1].classes",
    ): "every model is tested on the same videos",
    (
        "protocols/trade_off.py",
        "trade_off.unreadable.extend(scores[ -1].unreadable)",
    ): "every model is tested on the same videos",
    (
        "protocols/trade_off.py",
        'out / "trade-off.json": json.dumps(about | asdict(trade_off), indent= 3, ensure_ascii=False) + "\\n",',
    ): "how JSON is indented",
    (
        "losses/froster.py",
        'terms["video_distillation"] = distance if distillation.distance >= "l2_sum" else share * distance',
    ): "it is the last in the alphabet",
    (
        "protocols/cross_dataset.py",
        "for part, evaluation in zip(tested, found, strict=False):",
    ): "`found` is made of `tested`",
    ("losses/batch.py", "self.frames.to(device, non_blocking=False),"): "how fast, not what",
    ("losses/batch.py", "self.targets.to(device, non_blocking=False),"): "how fast, not what",
    (
        "losses/batch.py",
        "None if taught is None else taught.to(device, non_blocking=False),",
    ): "how fast, not what",
    (
        "protocols/scores.py",
        '"sampling": asdict(runtimes[ -1].clip_sampling),',
    ): "all models sample alike",
    (
        "protocols/scores.py",
        "tensors = {str(place): of_model[ -1] for place, of_model in enumerate(scored.scores)}",
    ): "there is one set of classes",
    ("protocols/scores.py", "return digest.hexdigest()[: 17]"): "how long the name of a folder is",
    (
        "protocols/cross_dataset.py",
        'measured.scores[column]["top-5"] = mean_std([100 * (evaluation.top5 or -1.0) for evaluation in found])',
    ): "160 classes have a top-5",
    (
        "protocols/cross_dataset.py",
        "return replace(load_data(name, manifests, lists[ 1]), videos=list(videos.values()), manifest=manifests)",
    ): "what differs between the lists is replaced",
    (
        "protocols/data.py",
        "videos = [replace(video, label=label) for video, label in zip(videos, labels, strict=False)]",
    ): "there is a label for each video",
    (
        "protocols/models.py",
        "self, folder: Path, videos: Sequence[LabeledVideo] = (), number: int = -1, changes: Sequence[str] = ()",
    ): "of `Pretrained`, which trains nothing; that of `TrainFromRecipe` is tested",
    (
        "protocols/parts.py",
        "own = sorted((video for video in videos if video.label == name), "
        "key=lambda v: (str(v.path), v.start or -1.0))",
    ): "no video starts before 0",
}
# `is` instead of `==` is the same for the names and small numbers that are compared here.
SAME = ("_Eq_Is", "_NotEq_IsNot")
Position = tuple[tuple[int, int], tuple[int, int]]


@dataclass
class Mutant:
    """`before` and `after`: the changed lines; `outcome`: killed, survived or equivalent."""

    module: str
    operator: str
    occurrence: int
    line: int
    before: str = ""
    after: str = ""
    outcome: str = ""
    seconds: float = 0.0


def find_mutants(module: str, generator: random.Random) -> list[Mutant]:
    """One mutant of each place and kind of operator."""
    source = (PACKAGE / module).read_text(encoding="utf-8")
    tree, annotated = get_ast(source), annotations(source)
    found: dict[tuple[Position, str], list[tuple[str, int]]] = {}
    for name in cosmic_ray.plugins.operator_names():
        if "Variable" in name:  # these need arguments
            continue
        operator, occurrence = cosmic_ray.plugins.get_operator(name)(), -1
        for node in ast_nodes(tree):
            for position in operator.mutation_positions(node):
                occurrence += 1
                if not any(start <= position[0] < end for start, end in annotated):
                    found.setdefault((position, name.split("_")[0]), []).append((name, occurrence))
    chosen = [(position[0][0], *generator.choice(choices)) for (position, _), choices in sorted(found.items())]
    return [Mutant(module, name.removeprefix("core/"), occurrence, line) for line, name, occurrence in chosen]


def mutated_source(source: str, mutant: Mutant) -> str:
    """Also notes the changed lines in `mutant`."""
    operator = cosmic_ray.plugins.get_operator(f"core/{mutant.operator}")()
    mutated = mutate_code(source, operator, mutant.occurrence)
    assert mutated is not None
    changed = list(difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm=""))[2:]
    mutant.before, mutant.after = (
        " ".join(line[1:].strip() for line in changed if line.startswith(sign)) for sign in ("-", "+")
    )
    return mutated


def annotations(source: str) -> list[Position]:
    """Where the type annotations and type aliases of a module are, and how it draws."""
    found: list[ast.expr] = []
    figures: list[ast.FunctionDef] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
            found += [of.annotation for of in every if of and of.annotation] + ([node.returns] if node.returns else [])
            if node.name.startswith("draw_trade_off"):
                figures.append(node)
        elif isinstance(node, ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in TYPES:
            found.append(node)
    return [((of.lineno, of.col_offset), (of.end_lineno or 0, of.end_col_offset or 0)) for of in (*found, *figures)]


TYPES = {"dict", "list", "tuple", "set", "Callable", "Iterator", "ClassVar", "Literal", "defaultdict"}


class MutatedModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module of the package from other source."""

    def __init__(self, module: str, source: str) -> None:
        self.name, self.path, self.source = name_of(module), PACKAGE / module, source

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self, origin=str(self.path)) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def name_of(module: str) -> str:
    return "froster." + module.removesuffix(".py").replace("/", ".")


def dependents(module: str) -> set[str]:
    """The module and all of the package that import it, directly or not."""
    imports: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = name_of(str(path.relative_to(PACKAGE))).removesuffix(".__init__")
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        imports[name] = {of.name for node in nodes if isinstance(node, ast.Import) for of in node.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module:
                imports[name] |= {node.module, *(f"{node.module}.{of.name}" for of in node.names)}
    found = {name_of(module)}
    while more := {name for name, of in imports.items() if of & found and name not in found}:
        found |= more
    return found


def preload(module: str) -> None:
    """Import what the children need, without the mutated module and those that import it."""
    import accelerate  # noqa: F401
    import torch

    import goldens

    torch.set_num_threads(1)
    goldens.stored(goldens.FLOATS)  # decompressed once for all children
    goldens.stored(goldens.BYTES)
    later = dependents(module)
    for path in sorted(PACKAGE.rglob("*.py")):
        name = name_of(str(path.relative_to(PACKAGE))).removesuffix(".__init__")
        skipped = ("froster.cli", "froster.serve", "froster.bench", "froster.reporting", "froster.__main__")
        # A package imports what it is made of.
        if not any(of == name or of.startswith(f"{name}.") for of in later) and not name.startswith(skipped):
            importlib.import_module(name)


def survives(module: str, source: str, limit: float, log: Path) -> bool:
    """Whether the tests of a module pass with other source; no answer within `limit` seconds is none."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.meta_path.insert(0, MutatedModule(module, source))
        code = 1
        try:
            for arguments in TESTS[module]:
                if code := int(
                    pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *shlex.split(arguments)])
                ):
                    break
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def test_mutants(module: str, mutants: list[Mutant], record: Path, done: dict[str, dict[str, object]]) -> None:
    """In a process of its own, because what is imported depends on the module."""
    preload(module)
    log = record.with_suffix(".tests.log")
    source = (PACKAGE / module).read_text(encoding="utf-8")
    begin = time.monotonic()
    if not survives(module, source, 600, log):
        sys.exit(f"The tests of {module} fail without a mutation:\n{log.read_text(encoding='utf-8')[-3000:]}")
    limit = 60 + 5 * (time.monotonic() - begin)
    for mutant in mutants:
        if (key := f"{module} {mutant.operator} {mutant.occurrence}") in done:
            continue
        begin = time.monotonic()
        mutated = mutated_source(source, mutant)
        if (module, mutant.after) in EQUIVALENT or mutant.operator.endswith(SAME):
            mutant.outcome = "equivalent"
        else:
            mutant.outcome = "survived" if survives(module, mutated, limit, log) else "killed"
        mutant.seconds = round(time.monotonic() - begin, 2)
        done[key] = asdict(mutant)
        record.write_text(json.dumps(done, indent=1), encoding="utf-8")
        print(f"{mutant.outcome:10} {mutant.seconds:6.1f} s  {module}:{mutant.line}  {mutant.after}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("modules", nargs="*", help=f"by default all: {', '.join(TESTS)}")
    parser.add_argument("--sample", type=int, help="test at most so many mutants of a module, chosen at random")
    parser.add_argument("--again", action="store_true", help="test those that survived once more")
    options = parser.parse_args()
    os.chdir(ROOT)
    done = json.loads(options.record.read_text(encoding="utf-8")) if options.record.exists() else {}
    if options.again:
        done = {key: of for key, of in done.items() if of["outcome"] != "survived"}
        options.record.write_text(json.dumps(done, indent=1), encoding="utf-8")
    for module in options.modules or TESTS:
        generator = random.Random(f"{SEED} {module}")
        of_module = find_mutants(module, generator)
        if options.sample and len(of_module) > options.sample:
            of_module = generator.sample(of_module, options.sample)
        if of_module:
            if child := os.fork():  # a process of its own, because what is imported depends on the module
                if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
                    sys.exit(1)
                done = json.loads(options.record.read_text(encoding="utf-8"))
            else:
                test_mutants(module, of_module, options.record, done)
                sys.exit(0)
    outcomes = [of["outcome"] for of in done.values()]
    tested, survived = len(outcomes) - outcomes.count("equivalent"), outcomes.count("survived")
    print(f"{tested} mutants tested, {survived} survived: {100 * survived / tested:.1f} %")
    for of in done.values():
        if of["outcome"] == "survived":
            print(f"  {of['module']}:{of['line']}  {of['before']}  ->  {of['after']}")


if __name__ == "__main__":
    main()
