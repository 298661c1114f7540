"""quality_plots.py - the pictures of quality.py, drawn by gnuplot from its CSV files.

Each function reads the CSVs that lie in the folder `out` and writes an SVG beside them.

SPDX-License-Identifier: MIT
"""

import shutil
import subprocess

COLOURS = ["#1f6feb", "#d1242f", "#8250df", "#2da44e", "#bf8700"]
HEAD = """set terminal svg size {width},{height} dynamic background rgb 'white' font 'sans,12'
set output '{svg}'
set datafile separator ','
set key autotitle columnhead
set grid back linecolor rgb '#dddddd'
set border 3
set tics nomirror
"""


def draw(out, name, script, width=900, height=420):
    """Runs gnuplot on the script, in the folder of the CSVs."""
    if not shutil.which("gnuplot"):
        return
    head = HEAD.format(svg=f"{name}.svg", width=width, height=height)
    done = subprocess.run(["gnuplot"], input=head + script, text=True, cwd=out,
                          capture_output=True)
    if done.returncode:
        raise SystemExit(f"quality.py: gnuplot on {name}: {done.stderr.strip()}")


def line(source, x, y, index, style="linespoints", extra=""):
    return (f"'{source}' using {x}:{y} with {style} linewidth 2 pointtype 7 pointsize 0.5 "
            f"linecolor rgb '{COLOURS[index]}' {extra}")


def modes(out, rows, names):
    """Perplexity in each window of the text; dense leaves the picture, so the scale is a log."""
    curves = ", ".join(line("modes_by_window.csv", 1, 2 + i, i) for i in range(len(names)))
    draw(out, "modes", f"""set title 'The same text in three modes'
set xlabel 'window of the text (the model was trained on one)'
set ylabel 'perplexity'
set logscale y
set key outside right
set xrange [0.5:{len(rows) + 0.5}]
plot {curves}
""")


def windows(out, rows):
    draw(out, "window", f"""set title 'Perplexity beyond the trained length'
set xlabel 'window, tokens'
set ylabel 'perplexity'
set logscale x 2
set xtics ({', '.join(str(row[0]) for row in rows)})
plot {line("window.csv", 1, 2, 0)}, {line("window.csv", 1, 3, 1)}
""")


def long(out, tokens):
    draw(out, "long", f"""set title '{tokens:,} tokens of books in a row, streaming'
set xlabel 'tokens read'
set ylabel 'perplexity'
set yrange [0:*]
set format x '%.1s%c'
unset key
plot {line("long.csv", 1, 2, 0, "lines")}
""")


def cost(out):
    def panel(title, unit, first):
        curves = ", ".join(line("cost.csv", 1, first + 2 * i, i) for i in range(3))
        return (f"set title '{title}'\nset ylabel '{unit}'\nset xlabel 'tokens so far'\n"
                f"plot {curves}\n")
    draw(out, "cost", "set multiplot layout 1,2\nset logscale xy\nset key top left\n"
         "set format x '%.0s%c'\n"
         + panel("Time of the next token", "milliseconds", 2)
         + panel("Keys, values and bookkeeping of the session", "MB", 3)
         + "unset multiplot\n", 1000)


def attention(out, variant, tokens, heads):
    def panel(source, title, columns, label):
        return (f"set title '{title}'\nset xlabel '{label}'\nset xrange [-0.5:{columns - 0.5}]\n"
                f"plot '{source}' matrix rowheaders columnheaders using 1:2:3 with image pixels\n")
    title = {"plain": "BOS in front", "sink": "a sink token in front"}[variant]
    draw(out, f"attention_{variant}",
         "unset key\nunset grid\nset palette defined (0 'white', 0.3 '#9ecae1', 1 '#08306b')\n"
         "set cbrange [0:0.6]\nset ylabel 'layer'\nset yrange [7.5:-0.5]\n"
         "set xtics rotate by 40 right\n"
         "set multiplot layout 1,2\n"
         + panel(f"attention_{variant}.csv", f"{title}: mean attention on a token", tokens,
                 "token of the stream")
         + panel(f"attention_heads_{variant}.csv", "on token 0, by head", heads, "head")
         + "unset multiplot\n", 1000)


def recall(out):
    draw(out, "recall", f"""set title 'A number told, and asked for later'
set xlabel 'tokens between'
set ylabel 'answered right'
set yrange [0:1.05]
unset key
set arrow from first 1024, graph 0 to first 1024, graph 1 nohead dashtype 2
plot {line("recall.csv", 2, 4, 0)}
""")
