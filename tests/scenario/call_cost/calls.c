/* Compiled once for each way to call: NAME calls function() 1000 times. */
int function(int x);
int NAME(int x) {
  for (int k = 0; k < 1000; ++k) x = function(x);
  return x;
}
