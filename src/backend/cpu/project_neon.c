/* project_neon.c - products at level neon: none yet, so the portable ones are taken.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

const project_table cpu_neon_table;
