#ifdef __cplusplus
extern "C" {
#endif

extern int e16_data;           /* STT_OBJECT, 1 */
extern int e16_copied;         /* STT_OBJECT, 2: the program has a copy relocation for it */
extern int e16_unique;         /* STB_GNU_UNIQUE, 3 */
extern int e16_untyped_data;   /* STT_NOTYPE, 4 */
extern __thread int e16_per_thread; /* STT_TLS, 5 */
int e16_untyped(int x);        /* STT_NOTYPE: x + 1 */
int e16_sizeless(int x);       /* size 0: x + 1 */

int e16_sum_of_data(void); /* by the caller library, which has a slot for each of them */
int e16_call_untyped(int x);
int e16_call_sizeless(int x);

#ifdef __cplusplus
}
#endif
