int f0(void);
int f1(void);
int f2(void);
int f3(void);
int f4(void);
extern int data;
int sum(void) { return f0() + f1() + f2() + f3() + f4(); }
int read_data(void) { return data; }
