/* The same with one instruction more on the way: what a trampoline would cost at the least. */
int longer(int x) {
  __asm__ volatile("nop");
  return ((x ^ 0x1000000) + 1) ^ 0x1000000;
}
