// target.hpp: what the program calls, and what the patches replace.
#pragma once

extern "C" {
int answer();  // 1
int second();  // 2

// Counted by the constructor and the destructor of each patch.
extern int constructions, destructions;

// Calls that go through the slots of caller_a and of caller_b.
int a_calls_answer();
int a_calls_second();
int a_calls_doubled(int x);
int a_calls_halved(int x);
int b_calls_answer();
int b_calls_second();
int b_calls_doubled(int x);
int b_calls_halved(int x);
}
