/* engine_file.h - kernels compiled beforehand, for a machine that has the driver and nothing else.
 *
 *     | header, images[16] | code of images[0] | code of images[1] | ...    little-endian
 *
 *     made_from, options   what the kernels were compiled for: every number of compile.h
 *     sources              which kernels: a hash of their source text
 *     images               one for each kind of GPU: target, where its code lies, hash of the code
 *
 * The code (a cubin, an ELF file) begins at a multiple of ENGINE_ALIGN.  Any bytes may be given:
 * places are checked first, then hashes, then that sections of the ELF file lie inside it, since
 * the driver is told an address and no size.  A hash keeps damage out, not malice: an engine file
 * is a program, to be taken from whom one would take a program.
 *
 * An engine file serves whatever models have these options and whatever window, chunk and number of
 * sessions they are run with: kernels take all of that as arguments.
 *
 * Test: tests/engine/test_cuda_engine_file.c, fuzz/fuzz_engine_file.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cuda/compile.h"
#include "base/file.h"

#include <stdint.h>

enum { ENGINE_TARGETS = 16, ENGINE_ALIGN = 64 };

typedef struct engine_image {
    char target[16];          /* "sm_90a", terminated */
    uint64_t made_from;       /* cuda_key */
    uint64_t at, bytes, hash; /* the code: offset in the file, size, cuda_hash */
} engine_image;

typedef struct engine_header {
    char magic[8];    /* the last is the version of this format */
    uint64_t bytes;   /* of the file */
    uint64_t hash;    /* of what follows in the header */
    uint64_t sources; /* cuda_sources_key */
    char weir[16];    /* version of weir that made it */
    char model[64];   /* name of what it was made for, for people */
    int32_t nvrtc[2];
#define X(name, before, behind) int32_t name;
    CUDA_OPTIONS(X)
#undef X
    int32_t n_images, unused;
    engine_image images[ENGINE_TARGETS];
} engine_header;

_Static_assert(sizeof(engine_header) == 152 + 48 * ENGINE_TARGETS, "no padding: it is in files");

/* Reads and checks all of a file's bytes; path is for messages. */
weir_status cuda_engine_parse(engine_header *out, const uint8_t *data, size_t size,
                              const char *path, weir_error *err);

/* The code for want->target, or for an older GPU whose code it runs, when the file was made from
 * these options and by these kernels; otherwise says what differs. */
weir_status cuda_engine_take(cuda_image *out, const char *path, const cuda_options *want,
                             weir_error *err);

/* Fills in the places, sizes and hashes of the images and writes all. */
weir_status cuda_engine_write(file_writer *w, engine_header *h, const cuda_image *images,
                              weir_error *err);

/* For people: the value of an option, "bf16, q8"; the targets, "sm_80, sm_90a". */
void cuda_engine_option_text(char *out, size_t size, const char *name, int value);
void cuda_engine_targets_text(char *out, size_t size, const engine_header *h);

uint64_t cuda_engine_hash(const engine_header *h); /* what h->hash is to be */
