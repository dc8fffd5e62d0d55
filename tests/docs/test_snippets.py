"""Every example of the documentation, run: a page is a session, from top to bottom, in a folder of its own.

Python blocks share one namespace. In console blocks each `$ deepseek …` is run, and the lines under it must be printed: numbers are not
compared, `…` stands for anything. YAML blocks are recipes, or parts of one, and must pass the validator and name columns that are there.
Comments of a page steer this: `<!-- setup: … -->` holds Python that the reader does not need to see, `<!-- file: NAME -->` says that the
block after it is the content of a file, `<!-- fails -->` that the command after it ends with an error.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deepseek.artifacts import StageCache
from deepseek.cli import main
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES.remove(ROOT / "docs" / "architecture.md")  # signatures, not examples
_PART = re.compile(
    r"^<!-- (?P<word>setup|file|fails):?(?P<said>.*?)-->|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")
_RUN_HERE = {"deepseek", "python", "pytest"}


@dataclass
class Block:
    language: str
    text: str
    line: int
    file: str | None = None
    fails: bool = False


def blocks_of(page):
    source = page.read_text()
    file, fails = None, False
    for match in _PART.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        if match["word"] == "file":
            file = match["said"].strip()
        elif match["word"] == "fails":
            fails = True
        elif match["word"] == "setup":
            yield Block("python", match["said"], line)
        else:
            yield Block(match["language"], match["text"], line + 1, file, fails)
            file, fails = None, False


class Session:
    def __init__(self, page, folder):
        self.page, self.folder = page, folder
        self.namespace = {"__name__": "__main__"}

    def run(self, block):
        if block.file:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(block.text)
        action = {"python": self.python, "console": self.console, "bash": self.console, "yaml": self.recipe, "toml": self.toml}.get(
            block.language
        )
        if action and not (block.file and block.language == "python"):
            action(block)

    def python(self, block):
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, self.namespace)

    def toml(self, block):
        tomllib.loads(block.text)

    def recipe(self, block):
        value = yaml.safe_load(block.text)
        value.setdefault("data", {}).setdefault("source", "customers.csv")
        if value["data"]["source"] == "customers.csv":
            value["data"].setdefault("target", "churned")
        recipe = load_recipe(value, folder=self.folder)
        make_dataset(recipe, StageCache(self.folder / "runs" / ".cache"))

    def console(self, block):
        for command, expected in _commands(block.text):
            words = shlex.split(command)
            if words[0] not in _RUN_HERE:
                continue
            status, printed = self._call(words)
            assert (status != 0) == block.fails, printed
            for line in expected:
                found = any(re.search(_pattern(line), _plain(one)) for one in printed.splitlines())
                assert found, f"{line!r} is not printed by {command!r}:\n{printed}"

    def _call(self, words):
        if words[0] == "deepseek":
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                status = main(words[1:])
            return status, out.getvalue()
        module = ["-m", "pytest", "-p", "no:cacheprovider"] if words[0] == "pytest" else []
        done = subprocess.run([sys.executable, *module, *words[1:]], cwd=self.folder, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def _commands(text):
    """Yield each command of a console block and the lines printed under it; a backslash at the end continues a command."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = re.sub(r"\\\n", " ", part).splitlines()
        yield command, [line for line in lines if line.strip() and line.strip() != "…"]


def _plain(text):
    return " ".join(_NUMBER.sub("#", text).split())


def _pattern(line):
    return re.escape(_plain(line)).replace("…", ".*")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_works(page, page_folder, short_training):
    session = Session(page, page_folder)
    for block in blocks_of(page):
        try:
            session.run(block)
        except BaseException as error:
            error.add_note(f"in the example at {page.relative_to(ROOT)}:{block.line}")
            raise


def test_the_harness_notices(tmp_path, monkeypatch, page_folder):
    """Wrong examples of each language must fail, or the tests above prove nothing."""
    session = Session(Path("page.md"), page_folder)
    with pytest.raises(NameError):
        session.run(Block("python", "undefined_name", 1))
    with pytest.raises(AssertionError):
        session.run(Block("console", "$ deepseek components schedule\nno such line\n", 1))
    with pytest.raises(AssertionError):
        session.run(Block("console", "$ deepseek components nothing\n", 1))
    with pytest.raises(Exception, match="did you mean 'epochs'"):
        session.run(Block("yaml", "train: {epoch: 3}\n", 1))
    with pytest.raises(Exception, match="did you mean 'age'"):
        session.run(Block("yaml", "data: {drop: [agge]}\n", 1))
