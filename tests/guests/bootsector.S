# The bare-metal test guest: 512 bytes that run where Linux does not boot, such as under a KVM
# that has only real mode and 32-bit protected mode.
#
# It counts round robin through the pages of 1..101 MiB, in order: pass c stores c at offset 0 of
# every page. Guest physical addresses are RAM offsets here, so that in an image of one instant the
# pages hold c up to one place and c-1 after it. Offset 4 holds a magic word, written before pass 1.
# A page that does not hold c-1 when pass c comes to it is counted as corrupt.
#
# Output on COM1, hexadecimal, when counting begins and after every pass:
#
#   tick=000001a4 corrupt=00000000

        .equ    FIRST, 0x00100000               # 1 MiB
        .equ    END,   0x06500000               # 101 MiB
        .equ    PAGE,  4096
        .equ    MAGIC, 0x42534742               # "BGSB"
        .equ    COM1,  0x3f8

        .code16
        .globl  start
start:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        inb     $0x92, %al                      # A20, should the BIOS have left it off
        orb     $2, %al
        andb    $0xfe, %al
        outb    %al, $0x92
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmp    $8, $flat

        .code32
flat:   movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7c00, %esp

        movl    $FIRST, %edi
mark:   movl    $0, (%edi)
        movl    $MAGIC, 4(%edi)
        addl    $PAGE, %edi
        cmpl    $END, %edi
        jne     mark

        xorl    %ebp, %ebp                      # corrupt pages
        xorl    %ebx, %ebx                      # c-1, what a page should hold
pass:   call    report
        movl    $FIRST, %edi
        leal    1(%ebx), %ecx                   # c
page:   cmpl    %ebx, (%edi)
        jne     bad
        cmpl    $MAGIC, 4(%edi)
        jne     bad
store:  movl    %ecx, (%edi)
        addl    $PAGE, %edi
        cmpl    $END, %edi
        jne     page
        movl    %ecx, %ebx
        jmp     pass
bad:    incl    %ebp
        movl    $MAGIC, 4(%edi)                 # count it once
        jmp     store

report: movl    $tick, %esi
        movl    %ebx, %eax
        call    field
        movl    $corrupt, %esi
        movl    %ebp, %eax
        call    field
        movb    $'\n', %al
        jmp     put

field:  pushl   %eax                            # the text at esi, then eax in hexadecimal
next:   lodsb
        testb   %al, %al
        jz      hex
        call    put
        jmp     next
hex:    popl    %edx
        movl    $8, %ecx
digit:  roll    $4, %edx
        movb    %dl, %al
        andb    $15, %al
        addb    $'0', %al
        cmpb    $'9', %al
        jbe     1f
        addb    $'a' - '9' - 1, %al
1:      call    put
        loop    digit
        ret

put:    pushl   %edx                            # al to COM1, once it takes it
        pushl   %eax
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        popl    %eax
        movw    $COM1, %dx
        outb    %al, %dx
        popl    %edx
        ret

tick:   .asciz  "tick="
corrupt: .asciz " corrupt="

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff              # code, flat
        .quad   0x00cf92000000ffff              # data, flat
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

        .org    510
        .word   0xaa55
