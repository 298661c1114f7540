/* plot.h - perplexity over a text as an SVG picture, drawn by gnuplot.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

bool plot_is_possible(void); /* gnuplot is in PATH */

/* Runs gnuplot on a script, [size]; the picture appears at path when it is whole. */
weir_status plot_run(const char *path, const char *script, size_t size, weir_error *err);

/* Appends a script that draws n points (x, y) to out; y on a logarithmic axis.  False: out of
 * memory. */
bool plot_script(buffer *out, const char *title, const char *x_label, const char *y_label,
                 const double *x, const double *y, int n);
