/* One of several callers: NAME is the letter of this one. */
int answer(void);
int question(void);
#define PASTE(a, b) a##b
#define FUNCTION(prefix, name) PASTE(prefix, name)
int FUNCTION(answer_from_, NAME)(void) { return answer(); }
int FUNCTION(question_from_, NAME)(void) { return question(); }
