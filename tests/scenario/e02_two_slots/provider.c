int e02_function(int x) { return x + 1; }
