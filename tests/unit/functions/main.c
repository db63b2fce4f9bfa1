int call_one(int a);
int call_two(int a);
int main(int count, char **arguments) {
  (void)arguments;
  return call_one(count) + call_two(count) == 77;
}
