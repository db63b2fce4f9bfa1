int e08_function(int x) { return x + 1; }
