"""The README and the changelog against the program: what they name is there, and what is there is named."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from curate.collectors import COLLECTORS
from curate.leakage import CHECKS
from pipelines.cli import NOT_YET, app
from schemas.records import TABLES
from train.detectors import DETECTORS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("schemas", "curate", "labeling", "train", "pipelines")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
ASSIGNMENT = r"[A-Z_]+=\S* +"


def find_verbs(group, before=""):
    """Every verb under `group` that is listed in its help, by its words."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from find_verbs(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


VERBS = dict(find_verbs(typer.main.get_command(app)))


def command_lines():
    """The words of every `wildrf ...` line in a code block of the README, and in its prose."""
    for _, block in BLOCKS:
        for line in block.splitlines():
            if re.match(rf"(?:\$ )?(?:{ASSIGNMENT})*wildrf ", line):
                yield shlex.split(re.sub(rf"^(?:\$ )?(?:{ASSIGNMENT})*wildrf ", "", line), True)
    for code in re.findall(r"`wildrf ([^`]+)`", PROSE):
        yield shlex.split(code, True)


def split_verb(words):
    """The verb that `words` begin with, and its arguments."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return name, list(words[length:])
    raise AssertionError(f"the README has `wildrf {' '.join(words)}`, and there is no such verb")


LINES = sorted({tuple(words) for words in command_lines()} - {("VERB", "-h")})


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_line_in_the_table_of_verbs(verb):
    assert re.search(rf"^\| `wildrf {verb}\b[^`]*` \| .+ \|$", README, re.MULTILINE)


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_every_command_line_in_the_readme_is_one_the_program_takes(words):
    name, arguments = split_verb(words)

    VERBS[name].make_context(name, [word.strip("[]") for word in arguments])


def test_a_command_line_that_the_program_does_not_take_would_be_found():
    with pytest.raises(AssertionError, match="no such verb"):
        split_verb(["colect", "export.zip"])
    with pytest.raises(typer.TyperException, match="no-such-option"):
        VERBS["fetch"].make_context("fetch", ["--no-such-option"])


@pytest.mark.parametrize("verb", NOT_YET)
def test_a_verb_that_is_not_yet_there_is_named_among_the_limits_alone(verb):
    assert f"`{verb}`" in section("Known limits")
    assert f"wildrf {verb}" not in README


@pytest.mark.parametrize("platform", COLLECTORS)
def test_every_platform_and_format_is_named(platform):
    for form in COLLECTORS[platform].FORMATS:
        assert re.search(rf"^\| {platform} \| `{re.escape(form.name)}` \| .+ \|$", README, re.M)


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_every_table_of_the_catalog_is_described(table):
    assert re.search(rf"^\| `{table}` \| .+ \|$", section("The catalog"), re.MULTILINE)


def test_the_families_of_detectors_and_the_tables_to_extend_are_named():
    for name in ("COLLECTORS", "CHECKS", "FEATURES", "DETECTORS", "STAGES"):
        assert f"`{name}`" in section("Where each change goes")
    assert {re.sub(r"\d", "", name) for name in DETECTORS} == {"ladeda", "tiny-ladeda"}
    assert CHECKS


def section(title):
    """The text under the heading `title`."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def tree_paths():
    """Every path of the README's tree of folders, each with its description."""
    block = re.search(r"```\n(.*?)```", section("The folders"), re.DOTALL)[1]
    above = []
    for line in block.splitlines():
        name, text = re.fullmatch(r" *(\S+) +(\S.*)", line).groups()
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name]
        yield "".join(above), text


TREE = dict(tree_paths())


def test_the_tree_names_every_module():
    modules = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }

    missing = sorted(modules - set(TREE))

    assert missing == [], "add a line for each to the tree in the README"


def test_the_tree_names_every_package():
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }

    assert sorted(packages - set(TREE)) == []


@pytest.mark.parametrize("path", TREE)
def test_whatever_the_tree_names_exists(path):
    found = ROOT / path

    assert found.is_dir() if path.endswith("/") else found.is_file()


@pytest.mark.parametrize(
    "package", sorted(path for path in TREE if (ROOT / path / "__init__.py").is_file())
)
def test_every_package_says_what_it_is_for(package):
    first = (ROOT / package / "__init__.py").read_text(encoding="utf-8").splitlines()[0]

    assert re.match(r'"""\w.{20,}', first)


def test_every_link_within_the_readme_leads_to_a_heading():
    headings = {h.lower().replace(" ", "-") for h in re.findall(r"^## (.+)$", README, re.MULTILINE)}

    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


@pytest.mark.parametrize("text", [README, CHANGELOG], ids=["README", "CHANGELOG"])
def test_no_path_of_a_machine_is_written_down(text):
    assert (
        re.findall(r"(?<![\w.:/<)*])/(?:home|root|tmp|work|Users|usr|opt|mnt|var)\b\S*", text) == []
    )


def test_nothing_was_left_to_fill_in():
    assert not re.search(r"@@|\bTODO\b|FIXME|XXX", README + CHANGELOG)


def test_the_newest_version_of_the_changelog_is_that_of_the_project():
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", CHANGELOG, re.MULTILINE)

    assert versions[0] == PROJECT["version"]


def test_the_readme_names_the_python_and_the_extras_of_the_project():
    assert PROJECT["requires-python"].removeprefix(">=") in section("Install")
    for extra in PROJECT["optional-dependencies"]:
        assert f"| `{extra}` |" in section("Install")


def test_every_verb_is_in_the_changelog():
    named = set(re.findall(r"`(?:wildrf )?(?:label )?([a-z-]+)`", CHANGELOG))

    assert {verb.split()[-1] for verb in VERBS} <= named
