#!/usr/bin/env python3
"""lint.py - the mechanical rules of the house, one line for each violation.

    tools/lint.py [--build DIR] [--all]

Reads every file git knows (and with --all the ones it does not know yet).  With a build folder it
also reads the symbols of the layers' archives and of libweir.  Exit 1 when there is a violation;
warnings and what was skipped are printed and change nothing.

    what                        limit
    file                        800 lines (warning at 600), median 300; tables in *.inc are free
    function                    100 lines, 150 in .cu; nine of ten within 50
    line                        100 columns, no tabs, no trailing space
    header comment              "name - what it is", SPDX line last in it
    comments                    10 to 40 % of the lines of a folder under src
    asserts                     8 for 1000 lines of code in src/nn, src/engine, src/backend
    includes                    only down the layers; models see weir/nn.h only; own header first
    public header               450 lines; what WEIR_API marks is listed in include/weir/exports.txt
    names                       no *_t of our own, TODO with an issue, NOLINT with its check
    symbols                     no mutable globals, no exit printf ... , malloc in the arena only

Test: tests/test_lint.sh breaks each rule once.

SPDX-License-Identifier: MIT
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

C_SUFFIXES = {".c", ".h", ".cu", ".cuh", ".inc"}
SCRIPT_SUFFIXES = {".py", ".sh"}
FOLDERS = ("src/", "include/", "tests/", "tools/", "bench/", "examples/", "fuzz/", "ui/")

FILE_WARN, FILE_FAIL, FILE_MEDIAN = 600, 800, 300
FUNCTION_FAIL, KERNEL_FAIL, FUNCTION_P90 = 100, 150, 50
COLUMNS = 100
COMMENT_SHARE = (10, 40)
COMMENT_MIN_LINES = 300  # smaller folders are too small for a share to mean anything
ASSERTS_PER_1000 = 8
PUBLIC_HEADER = 450

LAYERS = ["base", "format", "text", "nn", "backend", "model", "engine", "server", "cli"]
IN_LIBRARY = set(LAYERS) - {"server", "cli"}  # the others may print and exit

FORBIDDEN = set(
    "exit _exit _Exit quick_exit abort atexit printf vprintf fprintf vfprintf puts fputs putchar "
    "perror sprintf vsprintf strcpy strcat stpcpy gets scanf getenv secure_getenv setenv rand "
    "srand random srandom drand48 strtok system popen".split()
)
ALLOCATORS = set(
    "malloc calloc realloc reallocarray free aligned_alloc posix_memalign memalign valloc strdup "
    "strndup asprintf vasprintf getline mmap mmap64 munmap".split()
)
# Who may allocate, and what: everyone else goes through base/arena.h.
MAY_ALLOCATE = {
    "arena.c": ALLOCATORS,
    "file.c": {"mmap", "mmap64", "munmap"},  # mapped files are not heap
}
# Writable data that is meant to be there, as object: symbol.
MUTABLE = {("arena.c", "count")}  # a statistic

WEIR_NAME = re.compile(r"^(weir|nn)_")


class Report:
    """Collects violations and warnings and prints them as they come."""

    def __init__(self):
        self.failures = 0

    def fail(self, where, text):
        self.failures += 1
        print(f"{where}: {text}")

    def warn(self, where, text):
        print(f"{where}: warning: {text}")


class Source:
    """A file, its lines, and the same lines with comments and strings blanked out."""

    def __init__(self, path):
        self.path = path
        self.text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.split("\n")
        if self.lines and not self.lines[-1]:
            self.lines.pop()
        self.suffix = Path(path).suffix
        self.is_c = self.suffix in C_SUFFIXES
        self.code = blank_comments(self.text).split("\n") if self.is_c else self.lines

    @property
    def layer(self):
        parts = self.path.split("/")
        return parts[1] if parts[0] == "src" and len(parts) > 2 else None


TOKEN = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.S | re.X
)


def blank_comments(text):
    """The text with comments and the insides of strings as spaces: places stay where they are."""

    def blank(match):
        token = match.group()
        inside = re.sub(r"[^\n]", " ", token)
        return inside if token[0] == "/" else token[0] + inside[1:-1] + token[-1]

    return TOKEN.sub(blank, text)


def comment_lines(source):
    """How many lines carry a comment."""
    lines = set()
    for match in TOKEN.finditer(source.text):
        if match.group()[0] != "/":
            continue
        first = source.text.count("\n", 0, match.start())
        lines.update(range(first, first + match.group().count("\n") + 1))
    return len(lines)


# ---------------------------------------------------------------- one file


def check_layout(source, report):
    for number, line in enumerate(source.lines, 1):
        where = f"{source.path}:{number}"
        if len(line) > COLUMNS:
            report.fail(where, f"{len(line)} columns, at most {COLUMNS}")
        if "\t" in line:
            report.fail(where, "a tab")
        if line != line.rstrip():
            report.fail(where, "space at the end of the line")
    if not source.text.endswith("\n") or source.text.endswith("\n\n"):
        report.fail(source.path, "must end with one newline")
    count = len(source.lines)
    if source.suffix == ".inc":
        return
    if count > FILE_FAIL:
        report.fail(source.path, f"{count} lines, at most {FILE_FAIL}")
    elif count > FILE_WARN:
        report.warn(source.path, f"{count} lines, better {FILE_WARN}")


def header_comment(source):
    """The comment a file opens with, or None; a script's first line may name its interpreter."""
    text = re.sub(r"\A#!.*\n", "", source.text)
    patterns = {".py": r'\A"""(.*?)"""', ".sh": r"\A((?:#[^\n]*\n)+)"}
    match = re.match(patterns.get(source.suffix, r"\A/\*(.*?)\*/"), text, re.S)
    return match.group(1) if match else None


def check_header(source, report):
    comment = header_comment(source)
    if comment is None:
        report.fail(f"{source.path}:1", "no header comment")
        return
    words = re.sub(r"^[#*\s]+", "", comment)
    name = Path(source.path).name
    if not words.startswith(f"{name} - "):
        report.fail(
            f"{source.path}:1",
            f'header comment begins "{words[:24].strip()}", ' f'wanted "{name} - what it is"',
        )
    last = [line for line in comment.split("\n") if line.strip(" #*")][-1]
    if "SPDX-License-Identifier: MIT" not in last:
        report.fail(f"{source.path}:1", "header comment does not end with its SPDX line")


def functions(source):
    """(name, first line, length) of each function of a formatted C file: it begins in the first
    column and ends with a brace there."""
    start = None  # of the declaration the lines belong to
    opened = False
    for number, line in enumerate(source.code, 1):
        if not line.strip() or line[0] == "#":
            continue
        if line[0] == "}":
            if opened and start:
                yield start[1], start[0], number - start[0] + 1
            start, opened = None, False
            continue
        if opened:
            continue
        if line[0] not in " \t" or start is None:
            start = (number, declared_name(line))
        if line.rstrip().endswith("{"):
            opened = True
            if re.match(r"\s*(typedef|struct|enum|union|extern \")\b", source.code[start[0] - 1]):
                start = None
            elif start[1] is None or " = " in source.code[start[0] - 1]:
                start = None
        elif line.rstrip().endswith((";", "}")):
            start = None


def declared_name(line):
    match = re.search(r"(\w+)\s*\(", line)
    return match.group(1) if match else None


def check_functions(source, report):
    limit = KERNEL_FAIL if source.suffix in (".cu", ".cuh") else FUNCTION_FAIL
    lengths = []
    for name, first, length in functions(source):
        lengths.append(length)
        if length > limit:
            report.fail(f"{source.path}:{first}", f"{name} has {length} lines, at most {limit}")
    return lengths


def check_words(source, report):
    for number, (line, code) in enumerate(zip(source.lines, source.code), 1):
        where = f"{source.path}:{number}"
        if re.search(r"\b(TODO|FIXME|XXX)\b(?!.*#\d)", line):
            report.fail(where, "a TODO needs the number of an issue (#12)")
        if re.search(r"NOLINT(?!\w*\()(?!END)", line):
            report.fail(where, "NOLINT must name its check and the reason")
        match = re.search(r"^\s*(?:typedef\b.*?|\})\s*(\w+_t);", code)
        if match:
            report.fail(where, f"{match.group(1)}: names that end in _t belong to POSIX")
        if re.search(r"^\s*//", line) and "clang-format" not in line:
            report.fail(where, "comments are written /* */")


# ---------------------------------------------------------------- includes

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def includes(source):
    for number, line in enumerate(source.lines, 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def check_layers(source, report):
    layer = source.layer
    if layer is None:
        return
    for number, is_own, name in includes(source):
        if not is_own:
            continue
        target = name.split("/")[0]
        where = f"{source.path}:{number}"
        if layer == "model" and name != "weir/nn.h" and target != "model":
            report.fail(where, f'a model includes "{name}", may see weir/nn.h only')
        elif target in LAYERS and layer in LAYERS:
            if LAYERS.index(target) > LAYERS.index(layer):
                report.fail(where, f'{layer} includes "{name}", which lies above it')
        elif target not in ("weir", layer) and "/" in name:
            report.fail(where, f'"{name}" is in no layer')


def check_own_header(source, report, paths):
    """x.c includes x.h first."""
    own = re.sub(r"\.c$", ".h", source.path)
    if source.suffix != ".c" or own not in paths:
        return
    first = next((entry for entry in includes(source)), None)
    want = own.removeprefix("src/").removeprefix("tests/")
    if first and first[2] != want:
        report.fail(f"{source.path}:{first[0]}", f'includes "{first[2]}" before its own "{want}"')


def check_pragma_once(source, report):
    if source.suffix == ".h" and not re.search(r"^#pragma once$", source.text, re.M):
        report.fail(source.path, "no #pragma once")


def check_public_header(source, report):
    if source.path.startswith("include/") and len(source.lines) > PUBLIC_HEADER:
        report.fail(source.path, f"{len(source.lines)} lines, a public header has {PUBLIC_HEADER}")


# ---------------------------------------------------------------- folders


def check_shares(sources, report):
    """Comments and asserts are counted by folder."""
    folders = {}
    for source in sources:
        if source.path.startswith("src/") and source.is_c and source.suffix != ".inc":
            folders.setdefault(str(Path(source.path).parent), []).append(source)
    for folder, files in sorted(folders.items()):
        lines = sum(1 for f in files for line in f.lines if line.strip())
        share = 100 * sum(comment_lines(f) for f in files) / lines
        if lines >= COMMENT_MIN_LINES and not COMMENT_SHARE[0] <= share <= COMMENT_SHARE[1]:
            report.fail(
                folder,
                f"{share:.1f} % of the lines have comments, wanted "
                f"{COMMENT_SHARE[0]} to {COMMENT_SHARE[1]}",
            )
    for layer in ("nn", "engine", "backend"):
        code = [line for f in sources if f.layer == layer and f.is_c for line in f.code]
        n_code = sum(1 for line in code if line.strip())
        n_asserts = sum(1 for line in code if re.search(r"\b(assert|_Static_assert)\s*\(", line))
        if n_code >= COMMENT_MIN_LINES and n_asserts * 1000 < ASSERTS_PER_1000 * n_code:
            report.fail(
                f"src/{layer}",
                f"{n_asserts} asserts in {n_code} lines of code, wanted "
                f"{-(-n_code * ASSERTS_PER_1000 // 1000)}",
            )


def check_exports(sources, report):
    """What WEIR_API marks is what include/weir/exports.txt lists."""
    listing = ROOT / "include/weir/exports.txt"
    names = set()
    for source in sources:
        if source.path.startswith("include/"):
            code = [line for line in source.code if not line.lstrip().startswith("#")]
            joined = re.sub(r"\s+", " ", "\n".join(code))
            names.update(re.findall(r"WEIR_API [^;{}]*?\b(\w+) ?\(", joined))
    for name in sorted(n for n in names if not WEIR_NAME.match(n)):
        report.fail("include/weir", f"{name}: public names begin with weir_ or nn_")
    if not listing.exists():
        return names
    listed = set(listing.read_text().split())
    for name in sorted(names - listed):
        report.fail("include/weir/exports.txt", f"{name} is public and not listed")
    for name in sorted(listed - names):
        report.fail("include/weir/exports.txt", f"{name} is listed and not public")
    return names


# ---------------------------------------------------------------- symbols


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else ""


def members(archive, *options):
    """(object's source name, line) of what nm or objdump says about an archive."""
    name = "?"
    for line in run(*options, str(archive)).splitlines():
        match = re.match(r"^(\S+)\.o:", line)
        if match:
            name = match.group(1)
        elif line.strip():
            yield name, line


def check_undefined(archive, report):
    for name, line in members(archive, "nm", "-u"):
        symbol = line.split()[-1].split("@")[0]
        plain = re.sub(r"^__(\w+)_chk$", r"\1", symbol)
        plain = re.sub(r"^__isoc\d+_", "", plain)
        where = f"{archive.name}: {name}"
        if plain in FORBIDDEN:
            report.fail(
                where, f"calls {plain}: the library never prints, exits or reads the " "environment"
            )
        elif plain in ALLOCATORS - MAY_ALLOCATE.get(name, set()):
            report.fail(where, f"calls {plain}: memory comes from base/arena.h")


SYMBOL = re.compile(r"^[0-9a-f]+ (.{7}) (\S+)\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)$")


def check_globals(archive, report):
    """Objects in .data and .bss.  Constant tables of pointers lie in .data.rel.ro: read-only."""
    for name, line in members(archive, "objdump", "-t"):
        match = SYMBOL.match(line)
        if not match or "O" not in match.group(1):
            continue
        section, symbol = match.group(2), match.group(3).split(".")[0]
        writable = re.match(r"^(\.data|\.bss|\.tdata|\.tbss|\*COM\*)", section)
        if writable and not section.startswith(".data.rel.ro") and (name, symbol) not in MUTABLE:
            report.fail(f"{archive.name}: {name}", f"{symbol} is a mutable global ({section})")


def check_names(archive, report):
    """A global symbol of a layer begins with the prefix of some module: prefix_name."""
    for name, line in members(archive, "nm", "-g", "--defined-only"):
        symbol = line.split()[-1]
        if "_" not in symbol.strip("_"):
            report.fail(f"{archive.name}: {name}", f"{symbol} is global and has no prefix")


def check_library(path, public, report):
    """Whatever libweir shows to the world is public, and all that is public is there."""
    shared = path.suffix == ".so"
    table = run("nm", "-g", "--defined-only", *(["-D"] if shared else []), str(path))
    shown = {line.split()[-1] for line in table.splitlines() if len(line.split()) == 3}
    for symbol in sorted(s for s in shown if not WEIR_NAME.match(s)):
        report.fail(path.name, f"{symbol} is visible, wanted weir_ and nn_ names only")
    for symbol in sorted(public - shown):
        report.fail(path.name, f"{symbol} is declared public and not in the library")


def check_symbols(build, public, report):
    if not build or not build.is_dir():
        print("symbols: skipped, no --build folder")
        return
    for tool in ("nm", "objdump"):
        if not shutil.which(tool):
            print(f"symbols: skipped, no {tool}")
            return
    archives = sorted(build.glob("**/libweir_*.a"))
    for archive in archives:
        if archive.stem.removeprefix("libweir_") in IN_LIBRARY:
            check_undefined(archive, report)
            check_globals(archive, report)
            check_names(archive, report)
    libraries = sorted(build.glob("libweir.a")) + sorted(build.glob("libweir.so"))
    for library in libraries:
        check_library(library, public, report)
    print(f"symbols: {len(archives)} archives and {len(libraries)} libraries in {build}")


# ---------------------------------------------------------------- all of it


def tracked(everything):
    command = ["git", "-C", str(ROOT), "ls-files"]
    if everything:
        command += ["--cached", "--others", "--exclude-standard"]
    suffixes = C_SUFFIXES | SCRIPT_SUFFIXES
    return [
        path
        for path in sorted(set(run(*command).split("\n")))
        if path.startswith(FOLDERS) and Path(path).suffix in suffixes and (ROOT / path).is_file()
    ]


def check_formatting(sources, report):
    tool = shutil.which("clang-format")
    if not tool:
        print("formatting: skipped, no clang-format")
        return
    for source in sources:
        if source.suffix not in (".c", ".h"):
            continue
        wanted = run(tool, "--style=file", str(ROOT / source.path))
        if wanted and wanted != source.text:
            pairs = zip(wanted.split("\n"), source.text.split("\n"))
            line = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 1)
            report.fail(f"{source.path}:{line}", "not as clang-format writes it")


def check_summary(sources, lengths, report):
    sizes = [len(s.lines) for s in sources if s.path.startswith(("src/", "include/"))]
    if not sizes or len(lengths) < 2:
        return ""
    median = statistics.median(sizes)
    p90 = statistics.quantiles(lengths, n=10)[-1]
    if median > FILE_MEDIAN:
        report.fail("src", f"the median file has {median:.0f} lines, at most {FILE_MEDIAN}")
    if p90 > FUNCTION_P90:
        report.fail("src", f"one function in ten has {p90:.0f} lines, at most {FUNCTION_P90}")
    return f"median file {median:.0f} lines, 90th percentile function {p90:.0f} lines, "


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, help="build folder whose archives are read")
    parser.add_argument("--all", action="store_true", help="files git does not know yet, too")
    options = parser.parse_args()

    report = Report()
    sources = [Source(path) for path in tracked(options.all)]
    paths = {source.path for source in sources}
    lengths = []
    for source in sources:
        check_layout(source, report)
        check_header(source, report)
        if not source.is_c:
            continue
        check_words(source, report)
        check_layers(source, report)
        check_own_header(source, report, paths)
        check_pragma_once(source, report)
        check_public_header(source, report)
        of_file = check_functions(source, report)
        lengths += of_file if source.path.startswith("src/") else []
    check_shares(sources, report)
    check_formatting(sources, report)
    public = check_exports(sources, report)
    summary = check_summary(sources, lengths, report)
    check_symbols(options.build, public, report)
    print(f"lint: {len(sources)} files, {summary}{report.failures} violations")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
