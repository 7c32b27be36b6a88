# The tiny guest that finds out whether an accelerator works; probe_guest.py holds it assembled.
#
#   gcc -c probe_guest.S -o probe.o && ld -Ttext=0x100000 -e start probe.o -o probe.elf
#   objcopy -O binary probe.elf probe.bin
#
# QEMU enters it as a PVH kernel: 32-bit protected mode, flat segments, paging off.
.code32
.globl start
start:
  cld                           # three page tables at 2 MiB, zeroed,
  movl $0x200000, %edi
  xorl %eax, %eax
  movl $0xc00, %ecx
  rep stosl
  movl $0x201003, 0x200000      # that map the first 4 MiB onto themselves
  movl $0x202003, 0x201000
  movl $0x83, 0x202000
  movl $0x200083, 0x202008
  movl $0x200000, %eax
  movl %eax, %cr3
  movl %cr4, %eax
  orl $0x20, %eax               # PAE
  movl %eax, %cr4
  movl $0xc0000080, %ecx        # EFER.LME
  rdmsr
  orl $0x100, %eax
  wrmsr
  movl %cr0, %eax
  orl $0x80000001, %eax         # paging, and with it long mode
  movl %eax, %cr0
  lgdt gdtr
  ljmp $8, $long
.code64
long:
  xorl %eax, %eax
  movl %eax, %ds
  movl %eax, %ss
  movl $0x300000, %esp
  movl $0x280030, %edi          # gate 3 of an interrupt table
  movl $handler, (%rdi)
  movw $8, 2(%rdi)
  movl $0x00108e00, 4(%rdi)
  lidt idtr
  int3                          # an exception through it: where a software KVM that emulates instructions fails
  movl $20000000, %ecx          # 10 ms of work for a processor, minutes for an interpreter of instructions
1: decl %ecx
  jnz 1b
  movb $0x2a, %al               # isa-debug-exit: QEMU ends with status 2 * 0x2a + 1
  outb %al, $0xf4
2: hlt
  jmp 2b
handler:
  iretq
.align 8
gdt: .quad 0, 0x00af9a000000ffff
gdtr: .word 15
  .long gdt
idtr: .word 0x3f
  .quad 0x280000
