#!/usr/bin/env python3
"""kernel_live.py - how many registers are live in a GPU kernel, where, and what they hold.

    tools/kernel_live.py walk_one 32 1 64 2 2 4            where most are live
    tools/kernel_live.py --at 8041 walk_one 32 1 64 2 2 4  what is, at that instruction

Arguments as of kernel_report.py.  A register that is live where nobody wants its value is what a
spill begins with: an array that is set on one way through a loop only, or what was made before the
loop because it can be.  Liveness is worked out from the machine code, whose operands are read by a
few rules: numbers are good to one or two registers.  What was spilled already is not counted.

SPDX-License-Identifier: MIT
"""

import re
import signal

import kernel_report as report

NO_RESULT = set("""ST STG STS STL RED BAR BRA EXIT BSSY BSYNC BREAK SYNCS UBLKCP MEMBAR CCTL CALL
    RET NOP WARPSYNC ERRBAR FENCE DEPBAR LDGDEPBAR LDGSTS USETMAXREG YIELD R2UR PREEXIT
    ACQBULK""".split())
TARGET = re.compile(r"\bBRA\b.*?\((\.L_x_\d+)\)")


def registers(operand, n=1):
    """Of an operand; n: how many the first one stands for."""
    out = set()
    for i, m in enumerate(re.finditer(r"\bR(\d+)(\.64)?", operand)):
        first = int(m[1])
        out |= set(range(first, first + (2 if m[2] else n if i == 0 else 1)))
    return out


def effects(text):
    """(set, read, whether it may not run) of an instruction."""
    text = re.sub(r"\(\*.*?\*\)", "", text.split(";")[0])
    m = re.match(r"(@!?U?P\w+\s+)?(\S+)\s*(.*)", text)
    name, rest = m[2], m[3]
    base = name.split(".")[0]
    width = 4 if ".128" in name else 2 if ".64" in name else 1
    operands = [o.strip() for o in re.split(r",(?![^\[]*\])", rest)] if rest else []
    while operands and re.match(r"!?U?P[\dT]", operands[0]):
        operands.pop(0)
    if base in NO_RESULT:
        is_store = base in ("ST", "STG", "STS", "STL")
        read = set().union(*(registers(o, width if is_store and o is operands[-1] else 1)
                             for o in operands), set())
        return set(), read, bool(m[1])
    if not operands:
        return set(), set(), bool(m[1])
    is_matrix = base in ("HMMA", "IMMA")
    n = 4 if is_matrix else 2 if "WIDE" in name else width
    if base == "CS2R":
        n = 1 if ".32" in name else 2
    made = registers(operands[0], n) if operands[0].startswith("R") else set()
    read = set()
    for i, operand in enumerate(operands[1:]):
        wide = (4, 2, 4)[min(i, 2)] if is_matrix else 2 if "WIDE" in name and i == 2 else 1
        read |= registers(operand, wide)
    return made, read, bool(m[1])


def followers(texts, labels):
    out = []
    for i, text in enumerate(texts):
        after = []
        m = TARGET.search(text)
        may_go_on = text.startswith("@") or re.search(r"BRA\s+U?!?P", text)
        if m and m[1] in labels:
            after.append(labels[m[1]])
        if may_go_on or not (m or re.search(r"\b(EXIT|RET)\b", text)):
            after.append(i + 1)
        out.append([k for k in after if k < len(texts)])
    return out


def liveness(texts, labels):
    """[registers that are live before each instruction], [effects]"""
    what, after = [effects(t) for t in texts], followers(texts, labels)
    live = [set() for _ in texts]
    changed = True
    while changed:
        changed = False
        for i in range(len(texts) - 1, -1, -1):
            made, read, is_conditional = what[i]
            behind = set().union(*(live[k] for k in after[i]), set())
            now = (behind if is_conditional else behind - made) | read
            if now != live[i]:
                live[i], changed = now, True
    return live, what


def print_worst(live, paths, most):
    worst = {}
    for i, path in enumerate(paths):
        if path not in worst or len(live[i]) > len(live[worst[path]]):
            worst[path] = i
    for path, i in sorted(worst.items(), key=lambda x: -len(live[x[1]]))[:most]:
        print(f"{len(live[i]):6} at {i:<6} {path}")


def print_at(live, what, texts, paths, at):
    for r in sorted(live[at]):
        made = [i for i, (out, _, _) in enumerate(what) if r in out]
        before = [i for i in made if i < at] or made[:1]
        wanted = next((i for i in range(at, len(what)) if r in what[i][1]), "further up")
        i = before[-1] if before else 0
        print(f"R{r:<4} made at {i:<6} {texts[i][:44]:44} {paths[i]}, wanted at {wanted}")


def main():
    parser = report.arguments("live registers of a GPU kernel", depth=3, most=30)
    parser.add_argument("--at", type=int, help="the number of an instruction")
    args = parser.parse_args()
    found, labels = report.kernel_of(args)
    texts, functions = [text for text, _ in found], report.Functions()
    paths = [" > ".join([functions.name(p) for p in reversed(places)][-args.depth :])
             for _, places in found]
    live, what = liveness(texts, labels)
    if args.at is None:
        print_worst(live, paths, args.most)
    elif 0 <= args.at < len(texts):
        print_at(live, what, texts, paths, args.at)
    else:
        raise SystemExit(f"kernel_live.py: {args.kernel} has {len(texts)} instructions")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head`
    main()
