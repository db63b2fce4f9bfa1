/* A pointer to 4 bytes beyond a function's start: a relocation with an addend, which C cannot spell for a function. */
        .section .data.rel.ro, "aw"
        .balign 8
        .globl  beyond_by_4
        .hidden beyond_by_4
        .type   beyond_by_4, %object
        .size   beyond_by_4, 8
beyond_by_4:
        .quad   e05_beyond + 4

        .section .note.GNU-stack, "", %progbits
