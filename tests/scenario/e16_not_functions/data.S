        .data
        .balign 4
        .globl  e16_unique
        .type   e16_unique, %gnu_unique_object
        .size   e16_unique, 4
e16_unique:
        .long   3

        .globl  e16_untyped_data
e16_untyped_data:
        .long   4

        .section .note.GNU-stack, "", %progbits
