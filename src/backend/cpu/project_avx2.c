/* project_avx2.c - products at level avx2: none yet, so the portable ones are taken.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

const project_table cpu_avx2_table;
