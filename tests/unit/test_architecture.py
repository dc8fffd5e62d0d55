"""The house's hard rules, enforced: order of packages, sizes, names, documentation, and what must never be called."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deepseek
from deepseek.components import FAMILIES
from deepseek.registry import describe, family, import_string

ROOT = Path(deepseek.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ORDER = [
    "errors", "components", "validation", "registry", "progress", "processors", "databases",
    "fields", "statistics", "artifacts", "recipe", "search", "data", "profiling", "distributed", "models", "tasks", "optim", "training",
    "learning", "inference", "compression", "exporters", "explainers", "reporting", "monitoring", "serving", "tuning", "pipeline",
    "estimators", "cli",
]  # fmt: skip
OUTSIDE_THE_ORDER = {"__init__", "__main__"}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "constants", "misc"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BROAD_EXCEPTS = {
    "registry.py": "plugins are foreign code: whatever they raise is their failure",
    "data/loader.py": "the edge of a thread: the error is handed to the consumer, who raises it",
    "data/sources/hub.py": "`datasets`, and the readers and servers behind it, are foreign code",
    "data/sources/hub_stream.py": "the same; what fails again and again is raised",
    "data/sources/remote/stores.py": "object stores' libraries are foreign code, each with errors of its own",
    "data/transforms/text_pretrained.py": "the library of tokenizers raises `Exception` itself for a file that it does not understand",
    "data/streams/rows.py": "decoders are foreign code: a message that one cannot bear is set aside with what it raised",
    "data/sources/sql/drain.py": "the edge of a thread: the error is handed to the reader, who raises it",
    "models/keras/making.py": "a builder is foreign code: whatever it raises is its failure",
    "training/callbacks/tracker.py": "trackers are foreign code before foreign servers: none of their failures may end a training",
    "training/callbacks/usage.py": "NVML is a foreign library: what it raises of a device means that nothing is known of it",
    "training/compiled/step.py": "the tracer, the compiler and the C++ compiler behind it are foreign code",
    "serving/batching.py": "the edge of the model's thread: the error is handed to those who wait for the answer",
    "serving/experiments/arms.py": "a challenger is foreign to its champion: whatever it raises, the champion answers in its stead",
    "serving/exchange.py": "bundles are run by foreign code: what it raises leaves a model as it is, and later changes are followed",
    "serving/experiments/tally.py": "an error of one experiment is raised once the others have had their entries",
    "serving/threads.py": "the edge of a thread: the error is handed to those who wait for the answer",
    "serving/observers.py": "observers, and rows on their way to the journal, are foreign: answers go on whatever they raise",
    "monitoring/watcher.py": "ways of alarm are foreign code: what one raises is told, and the others are told of the alarm",
    "pipeline/closed_loop/making.py": "training runs foreign code, plugins and compilers: what it raises ends the round, written and told",
    "serving/recorder/process.py": "consumers of the journal are guests: what one cannot make sense of must not stop the others",
    "serving/recorder/watching.py": "a defect in what one model's watch makes of its rows must not cost those of others",
    "serving/http/asgi.py": "the edge of the process: a defect is answered with a 500, logged with its traceback; the others are served",
    "serving/runners/process.py": "the edge of the process: what foreign code raises goes to the worker, whose requests it belongs to",
    "serving/intake/compactor.py": "the edge of a thread: what came is kept, the failure counted and logged, and the next try comes",
    "serving/intake/index.py": "the edge of a thread: the error is handed to those who wait for the commit",
    "search/study.py": "the objective is foreign code: a trial that fails is recorded with its error, and the study goes on",
    "distributed/launch.py": "the edge of a rank's process: its traceback goes to the parent",
    "distributed/ray_cluster.py": "the same, and the driver is the parent",
    "training/checkpoints/background.py": "the edge of a thread: the error is handed to whoever waits for the work",
    "training/checkpoints/keeper.py": "training ends with an error already: whatever a writer raises besides is noted with it",
}
NO_TORCH = ORDER[: ORDER.index("data")]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    return Path(relative(path)).parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> list[tuple[str, int]]:
    """Every module that the file imports, wherever the import stands."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno}: relative import"
            if node.module == "deepseek":
                found += [(f"deepseek.{alias.name}" if alias.name in ORDER else "deepseek", node.lineno) for alias in node.names]
            else:
                found.append((node.module or "", node.lineno))
    return found


def in_house(path: Path) -> list[tuple[str, int]]:
    return [(name.split(".")[1], line) for name, line in imported(path) if name.startswith("deepseek.")]


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.fixture(params=FILES, ids=relative)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_every_package_has_its_place() -> None:
    assert {package_of(path) for path in FILES} - OUTSIDE_THE_ORDER <= set(ORDER)


def test_a_file_imports_only_from_packages_above_its_own(path: Path) -> None:
    if package_of(path) in OUTSIDE_THE_ORDER:
        return
    place = ORDER.index(package_of(path))
    wrong = [f"line {line}: {name}" for name, line in in_house(path) if ORDER.index(name) > place]
    assert not wrong


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """The in-house modules that importing or running the file imports; what stands under TYPE_CHECKING alone is left out."""
    tree = tree_of(path)
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING"]
    skipped = {id(node) for block in blocks for statement in block.body for node in ast.walk(statement)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in skipped:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {whole if whole in modules else str(node.module) for whole in inner.values()}
    return (names & modules) - {"deepseek"}  # the top resolves its names when they are used


def test_modules_form_no_cycle() -> None:
    files = {".".join(("deepseek", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path for path in FILES}
    edges = {name: imported_modules(path, set(files)) for name, path in files.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in sorted(edges[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in files:
        visit(name, ())


def test_no_file_bears_a_name_that_says_nothing(path: Path) -> None:
    assert not FORBIDDEN_NAMES & {part.removesuffix(".py") for part in Path(relative(path)).parts}


def test_files_and_functions_keep_their_size(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600
    long = [f"{node.name}: {code_lines(node)} lines" for node in functions(path) if code_lines(node) > 60]
    assert not long


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    documentation = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
    return node.end_lineno - node.lineno + 1 - documentation


def test_functions_take_few_parameters(path: Path) -> None:
    wrong = []
    for node in functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
        if node.name != "__init__" and len(names) > 7 and relative(path) not in PARAMETERS_EXEMPT:
            wrong.append(f"{node.name}({', '.join(names)})")
    assert not wrong


def test_public_functions_take_few_positional_parameters(path: Path) -> None:
    """From the fourth parameter on a call says what is what; most say it from the third."""
    wrong = []
    classes = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    for node in [
        node for scope in (tree_of(path), *classes) for node in scope.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]:
        names = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args] if argument.arg not in ("self", "cls")]
        if (node.name == "__init__" or node.name[0] != "_") and len(names) > 3 and relative(path) not in POSITIONAL_EXEMPT:
            wrong.append(f"{node.name}({', '.join(names)})")
    assert not wrong


POSITIONAL_EXEMPT = {
    "models/encoders/text_rnn.py": "an operator's tensors, which graphs pass by place",
    "models/recurrent.py": "an operator's tensors, which graphs pass by place",
    "reporting/axes.py": "coordinates: x, y, width, height",
    "reporting/charts/marks.py": "coordinates: x, y, radius",
    "search/samplers.py": "Optuna's signatures",
    "serving/observers.py": "what an observer is told: of which model, rows, answers and ids",
    "training/trainer.py": "what is trained, for what, on what, and measured on what",
}

PARAMETERS_EXEMPT = {
    "cli/embed.py": "the verb's options",
    "cli/export.py": "the verb's options",
    "cli/generate.py": "the verb's options",
    "cli/ingest.py": "the verb's options",
    "cli/learn.py": "the verb's options",
    "cli/loop.py": "the verb's options",
    "cli/experiment.py": "the verb's options",
    "cli/compress.py": "the verb's options",
    "cli/predict.py": "the verb's options",
    "cli/serve.py": "the verb's options",
    "cli/suspects.py": "the verb's options",
    "cli/train.py": "the verb's options",
    "cli/tune.py": "the verb's options",
    "cli/watch.py": "the verb's options",
    "data/materialize.py": "which rows, in which role, and what becomes of those that cannot be prepared",
    "pipeline/embed.py": "embed() is the public function whose arguments are the verb's options",
    "pipeline/keras_training.py": "what is trained, on what, and how",
    "pipeline/recipes.py": "a recipe's parts as train() is given them",
    "pipeline/suspects.py": "suspects() is the public function whose arguments are the verb's options",
    "pipeline/train.py": "train() is the public function whose arguments are a recipe in short",
}


def test_public_names_are_documented(path: Path) -> None:
    tree = tree_of(path)
    bare = [] if ast.get_docstring(tree) else ["the module"]

    def visit(body: list[ast.stmt], owner: str, inherits: bool) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                overrides = inherits and not isinstance(node, ast.ClassDef)  # its base documents it
                if not overrides and not ast.get_docstring(node) and not any("overload" in dotted(one) for one in node.decorator_list):
                    bare.append(f"{owner}{node.name}")
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{node.name}.", bool(node.bases))

    visit(tree.body, "", False)
    assert not bare


def test_nothing_forbidden_is_called_or_imported(path: Path) -> None:
    calls = {dotted(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}
    assert not calls & FORBIDDEN_CALLS
    assert not {name.split(".")[0] for name, _ in imported(path)} & FORBIDDEN_IMPORTS


def broad_excepts(path: Path) -> list[int]:
    """Lines of handlers that catch everything and do not let it go on as it is."""
    return [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or dotted(node.type) in ("Exception", "BaseException"))
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
    ]


def test_broad_excepts_stand_only_at_edges() -> None:
    assert {relative(path) for path in FILES if broad_excepts(path)} == set(BROAD_EXCEPTS)


@pytest.mark.parametrize(("family_name", "name"), [(key, name) for key, (_, names) in FAMILIES.items() for name in names])
def test_every_built_in_keeps_its_contract_and_documents_its_arguments(family_name: str, name: str) -> None:
    component = family(family_name).get(name)
    assert issubclass(component, import_string(FAMILIES[family_name][0]))
    summary, help_of = describe(component)
    assert summary
    assert not set(family(family_name).schema(name).model_fields) - set(help_of)


def test_public_functions_never_share_a_name_with_a_package() -> None:
    assert not set(deepseek.__all__) & {path.name for path in ROOT.rglob("*") if path.is_dir()}


@pytest.mark.parametrize("name", [name for name in deepseek.__all__ if name != "__version__"])
def test_public_names_exist(name: str) -> None:
    assert getattr(deepseek, name).__doc__


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_deepseek_loads_nothing_heavy() -> None:
    assert not loaded_by("import deepseek") & {"torch", "numpy", "pyarrow", "polars", "pydantic", "yaml", "rich", "typer"}


def test_naming_components_and_errors_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pyarrow", "polars", "pydantic", "yaml", "rich", "typer"}
    assert not loaded_by("import deepseek; deepseek.list_components(); import deepseek.errors, deepseek.progress") & heavy


def test_help_of_the_command_line_loads_neither_torch_nor_arrow() -> None:
    assert not loaded_by("from deepseek.cli import main; main(['run', '--help'])") & {"torch", "numpy", "pyarrow", "polars"}


@pytest.mark.parametrize("name", NO_TORCH)
def test_the_packages_on_top_do_without_torch(name: str) -> None:
    assert "torch" not in loaded_by(f"import deepseek.{name}")


def test_the_order_here_is_the_order_in_the_documentation() -> None:
    page = ROOT.parents[1] / "docs" / "architecture.md"
    if not page.exists():
        pytest.skip("an installed package brings no documentation")
    block = page.read_text(encoding="utf-8").split("```text\n", 1)[1].split("```", 1)[0]
    written = [name for line in block.splitlines() for name in re.findall(r"\b([a-z]+)(?:/|\.py)", line.split("   ")[0])]
    assert [name for name in written if name in ORDER] == ORDER


def test_the_rules_are_alive(tmp_path: Path) -> None:
    """What the functions above look for is found where it stands."""
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    if True:\n        from deepseek.cli import main\n    return eval('1')\n", encoding="utf-8")
    assert in_house(file) == [("cli", 3)]
    assert "eval" in {dotted(node.func) for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)}
    assert code_lines(functions(file)[0]) == 4


def test_every_public_name_is_known_to_type_checkers_and_to_the_documentation() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    branch = next(node for node in tree.body if isinstance(node, ast.If))
    known = {alias.name for node in branch.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert known == set(dir(deepseek)) - {"__version__"}
