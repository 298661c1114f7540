/* embedded.S - the bytes of models/weir.gguf as read-only data.
 *
 * SPDX-License-Identifier: MIT */
    .section .rodata
    .balign 64
    .globl model_image
    .hidden model_image
    .globl model_image_end
    .hidden model_image_end
model_image:
    .incbin MODEL_EMBEDDED
model_image_end:
    .byte 0
    .section .note.GNU-stack,"",%progbits
