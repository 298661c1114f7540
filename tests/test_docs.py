#!/usr/bin/env python3
"""test_docs.py - what the documents say of the sources is so.

    tests/test_docs.py

    code blocks      docs/adding_a_model.md quotes examples/own_model.c, README.md examples/hello.c
    file:function    the function is in that file
    paths            every path in back ticks, and every relative link, exists
    reading order    the lines of a file are within a quarter of what docs/design.md says
    make             every target that is named exists, and README.md names demo and check

SPDX-License-Identifier: MIT
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
QUOTES = {"docs/adding_a_model.md": "examples/own_model.c", "README.md": "examples/hello.c"}
FOLDERS = tuple("src/ include/ docs/ examples/ tests/ tools/ bench/ fuzz/ models/".split())

failures = 0
checks = 0


def check(is_so, message):
    global failures, checks
    checks += 1
    if not is_so:
        failures += 1
        print(message)


def check_quotes(name, text):
    source = (ROOT / QUOTES[name]).read_text()
    blocks = re.findall(r"^```c\n(.*?)^```$", text, re.S | re.M)
    check(blocks, f"{name}: quotes nothing of {QUOTES[name]}")
    for block in blocks:
        first = block.strip().split("\n")[0]
        check(block.strip() in source, f"{name}: not in {QUOTES[name]}: {first} ...")


def check_paths(document, name, text):
    for path, function in re.findall(r"`([\w./-]+\.\w+):(\w+)`", text):
        file = ROOT / path
        has = file.is_file() and re.search(rf"^\w.*\b{function}\(", file.read_text(), re.M)
        check(has, f"{name}: no function {function} in {path}")
    for path in re.findall(r"`([\w./-]+)`", text):
        if path.startswith(FOLDERS) and "<" not in path:
            check((ROOT / path).exists(), f"{name}: {path} does not exist")
    for link in re.findall(r"\]\((?!\w+:)([^)#]+)", text):
        check((document.parent / link).exists(), f"{name}: links to {link}, which does not exist")


def check_lines(name, text):
    rows = re.findall(r"^\|[^|]*\| `([\w./-]+)` \| (\d+) \|", text, re.M)
    check(len(rows) > 5, f"{name}: has no reading order")
    for path, said in rows:
        if not (ROOT / path).is_file():
            continue  # said by check_paths
        lines = (ROOT / path).read_text().count("\n")
        check(
            abs(lines - int(said)) <= max(lines, int(said)) / 4,
            f"{name}: {path} has {lines} lines, not {said}",
        )


def check_targets(name, text, targets):
    for target in re.findall(r"(?:^ {4}|`)make ([a-z]+)", text, re.M):
        check(target in targets, f"{name}: make {target} does not exist")


def main():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    for document in DOCUMENTS:
        name = str(document.relative_to(ROOT))
        text = document.read_text()
        check_paths(document, name, text)
        check_targets(name, text, targets)
        if name in QUOTES:
            check_quotes(name, text)
        if name == "docs/design.md":
            check_lines(name, text)
        if name == "README.md":
            for target in ("demo", "check"):
                check(f"make {target}" in text, f"{name}: does not name make {target}")
    if not failures:
        print(f"documents: {checks} checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
