/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */
/*
 * shunt.h: redirect the calls that this process makes to dynamically linked functions; live, all or nothing, reversibly.
 *
 * The words: an OBJECT is an ELF file loaded in the process. A SLOT is a pointer-sized word that the dynamic linker filled
 * for a symbol. An object that holds a slot is a CALLER, the object that defines the symbol is its PROVIDER. A REDIRECT is
 * one symbol, its replacement and its callers. A TRANSACTION is any number of redirects, applied all or none; a PLAN is
 * what it would write; a CHANGE is a transaction that was applied. Redirects over one symbol are LAYERS, the newest on
 * top; what a layer calls to reach the layer below, and at the bottom the real function, is its ORIGINAL.
 * A PATCH is a shared library whose exported functions are the replacements.
 *
 * Rules that hold for every function here, unless its own text says otherwise:
 *
 *   Result    SHUNT_OK (0), or a code of errors.def. On any other result nothing in the process has changed.
 *   Errors    `error` may be NULL. Otherwise, on failure, *error is set to an error that the caller frees with
 *             shunt_error_free(); on success it is set to NULL. When there is no memory even for the error, *error is a
 *             constant that shunt_error_free() accepts as well. Every function with an `error` can give
 *             SHUNT_E_invalid_argument (a NULL where none is allowed), SHUNT_E_out_of_memory, and SHUNT_E_busy.
 *   Strings   are UTF-8 or plain bytes, NUL-terminated. Those passed in are copied. Those returned belong to the handle
 *             they came from and live as long as it does.
 *   Threads   any function may be called from any thread at any time. A handle (transaction, plan, change, patch) may be
 *             used by one thread at a time; different handles are independent.
 *   Signals   no function may be called in a signal handler, but for shunt_original(). Replacements may run there, if they
 *             are themselves fit for it.
 *   Binding   a slot that is bound lazily can be bound by another thread while it is written: that thread stores the real
 *             function over the replacement when it comes out of the dynamic linker. Whatever is asked of shunt next, for
 *             example shunt_change_conflicts(), sees that and writes the slot again.
 *   Loading   an object that is loaded while a redirect stands gets it too, where its callers are chosen: when shunt is asked next, or,
 *             from shunt_watch_loads() on, before the first of its constructors runs. Its slots count as the change's
 *             (shunt_change_slots()) until it is unloaded.
 *   Fork      fork() waits for a transaction to end, so a child finds it whole or not begun, and goes on by itself. From the first call
 *             of shunt in the process on: that one must not run while another thread is in fork(). vfork() and exec are as without shunt.
 *   Reentry   a replacement must not call these functions while it is called by shunt itself. It is told SHUNT_E_busy.
 */
#ifndef SHUNT_SHUNT_H
#define SHUNT_SHUNT_H

#include <stddef.h>
#include <stdint.h>

#include <shunt/version.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SHUNT_API __attribute__((visibility("default")))
#else
#define SHUNT_API
#endif

/* The codes: SHUNT_OK and one SHUNT_E_<name> for each line of errors.def. */
typedef enum shunt_code {
  SHUNT_OK = 0,
#define SHUNT_ERROR(name, number, summary) SHUNT_E_##name = number,
#include <shunt/errors.def>
#undef SHUNT_ERROR
} shunt_code;

typedef struct shunt_error shunt_error;
typedef struct shunt_transaction shunt_transaction;
typedef struct shunt_plan shunt_plan;
typedef struct shunt_change shunt_change;
typedef struct shunt_patch shunt_patch;

/* The version of the library that answers, as "0.1.0". Never fails. */
SHUNT_API const char *shunt_version(void);

/* ---- errors ------------------------------------------------------------------------------------------------------- */

/* The name of a code ("unknown_symbol"), and its summary from errors.def. Never NULL: an unknown code is "unknown_code". */
SHUNT_API const char *shunt_code_name(shunt_code code);
SHUNT_API const char *shunt_code_text(shunt_code code);

/* The facts of an error. The message is a whole sentence that names them. object and symbol are "" when they do not
 * apply, address and errno are 0 then. All accept NULL and then answer SHUNT_OK, "" or 0. */
SHUNT_API shunt_code shunt_error_code(const shunt_error *error);
SHUNT_API const char *shunt_error_message(const shunt_error *error);
SHUNT_API const char *shunt_error_object(const shunt_error *error);
SHUNT_API const char *shunt_error_symbol(const shunt_error *error);
SHUNT_API uint64_t shunt_error_address(const shunt_error *error);
SHUNT_API int shunt_error_errno(const shunt_error *error);
SHUNT_API void shunt_error_free(shunt_error *error); /* accepts NULL */

/* ---- log ---------------------------------------------------------------------------------------------------------- */

typedef enum shunt_log_level {
  SHUNT_LOG_DEBUG = 0,
  SHUNT_LOG_INFO = 1,
  SHUNT_LOG_WARNING = 2,
  SHUNT_LOG_ERROR = 3,
} shunt_log_level;

/* Called with one line of text, without newline. It runs on the thread that called shunt, never while slots are being
 * written and never with a lock of shunt's held. */
typedef void (*shunt_log_sink)(shunt_log_level level, const char *line, void *user);

/* Sends the library's log to `sink` with `user`, or nowhere when `sink` is NULL (as at the start). Lines below `level`
 * are not made. `user` must stay valid until another sink is set and running calls into shunt have returned. */
SHUNT_API void shunt_set_log(shunt_log_sink sink, void *user, shunt_log_level level);

/* ---- redirects ---------------------------------------------------------------------------------------------------- */

/* By which way the calls of a function are redirected.
 *
 * SHUNT_REACH_AUTO   its slots; and its ENTRY as well, the first instructions of the function, where code of the object that
 *                    defines it calls it directly, has a pointer to it, or that cannot be excluded, or where nobody calls it
 *                    through a slot. An entry that cannot be redirected is left, and the coverage says why; without a slot
 *                    that is an error.
 * SHUNT_REACH_SLOTS  only slots. Code is not touched.
 * SHUNT_REACH_ENTRY  only the entry: no slot is written, imports reach the function through it. That it cannot be is an error.
 *
 * Whether code calls a function directly or takes its address is asked of the bytes of the provider's code, once for each object: so
 * rather too often than too seldom. Its initialised data are looked through for the address. Not seen are pointers that
 * others hold (what dlsym answered, what was handed to a library), or that the provider put into memory it asked for.
 *
 * A redirect for some calls only (callers, not_callers, caller_at, version) never uses an entry, since every call comes to an
 * entry; asking for one is SHUNT_E_invalid_argument. A patch's own calls of what it replaces reach the originals in any case.
 *
 * A function whose entry is redirected is found by its exported name, or else by its name in .symtab or in a separate debug
 * file (a static function; FILE.cpp:NAME where several files have one of the name), or by its address as text, "0x401136".
 * Other names of the same code (aliases, functions that the linker folded) are redirected with it: each must be accepted in
 * `also`. A function that an IFUNC chose, functions of the dynamic linker, of the unwinder, of patches and of shunt itself are never
 * redirected at their entry.
 *
 * The slots through which libshunt.so calls are never redirected. An entry is what its calls come to as well, where it calls such
 * a function (malloc, sigaction ...): the replacement is then called by shunt too, and must do what the function does. */
typedef enum shunt_reach {
  SHUNT_REACH_AUTO = 0,
  SHUNT_REACH_SLOTS = 1,
  SHUNT_REACH_ENTRY = 2,
} shunt_reach;

/* How one redirect chooses the calls that it is for. Set everything to zero, then what is needed; or use SHUNT_OPTIONS_INIT.
 * Globs know `*` and `?`. They are matched against an object's soname, its path and the last part of its path; the
 * executable's path is that of its file. Symbols are named as the dynamic linker knows them (C++: mangled). */
typedef struct shunt_options {
  size_t size; /* sizeof(shunt_options): lets later versions of this struct grow */

  /* Callers, as NULL-terminated arrays of globs, or NULL. Default: every object but shunt itself, and for a patch every
   * object but the patch. `not_callers` wins over `callers`. An object whose ELF image cannot be read is left out and
   * named in the plan's coverage; when a glob of `callers` asked for it by name it is SHUNT_E_image_malformed. */
  const char *const *callers;
  const char *const *not_callers;
  /* Any address inside the one object whose calls are meant, or NULL. Together with globs, both must agree. */
  const void *caller_at;

  /* Only imports that are bound to a provider that matches this glob, or NULL. */
  const char *provider;
  /* Only imports that ask for this symbol version ("GLIBC_2.2.5"), or NULL. */
  const char *version;

  /* A word that shunt keeps set to the original, or NULL: it is set before the first slot is written, follows when layers
   * below come or go, and is left as it is after a revert. It must be aligned and live until the redirect is reverted;
   * read it once per call. It belongs to the caller. */
  void **original;

  /* By which way calls are redirected. */
  shunt_reach reach;
  /* Further names of the same code that are meant too, as a NULL-terminated array, or NULL. Only for an entry. */
  const char *const *also;

  /* 1: dlsym() and dlvsym() answer with the replacement, too, where they would answer with the function; 0: they do not. See below. */
  int dlsym;
} shunt_options;

#define SHUNT_OPTIONS_INIT {sizeof(shunt_options), NULL, NULL, NULL, NULL, NULL, NULL, SHUNT_REACH_AUTO, NULL, 0}

/* dlsym() and dlvsym(), where `dlsym` is set:
 *
 * The answer is the replacement when it would be the very function that the redirect is about, for RTLD_DEFAULT, for RTLD_NEXT and for
 * handles, and when the object that calls dlsym() is one whose calls the redirect is for. A patch that looks up what it replaces gets the
 * original. With `version`, dlvsym() of that version is meant, and dlsym() where it finds the same function. The answer that counts is that of
 * the newest layer that asks for it. Everything else that is asked of dlsym(), and every error, is the dynamic linker's. Nothing is replaced
 * where the answer cannot be told from outside the dynamic linker: RTLD_DEFAULT where both the program and what came with the calling
 * object have the name and no slot shows which of them that object gets (RTLD_DEEPBIND), RTLD_NEXT of an object that came with the program
 * where only an object that was loaded with RTLD_GLOBAL follows. Objects of other namespaces (dlmopen) call their own dlsym().
 *
 * The redirect stands even where nobody has a slot: then it is for dlsym() and for objects that are loaded later. What a program looked up
 * before stays what it was, and what it looked up while the redirect stood leads to the replacement after the revert: its code must stay.
 * An object that RTLD_DEFAULT finds, and that would be kept loaded for the caller, is kept loaded for good.
 *
 * For this, the slots of dlsym and dlvsym themselves lead to shunt while such redirects stand, beside the slots that a plan counts; the coverage
 * says how many. Who looks `dlsym` itself up gets that one. The redirect is refused where those slots cannot be written. */

/* Applies one redirect: a transaction of one. `options` may be NULL. *change is freed with shunt_change_free().
 * Errors: as shunt_transaction_add() and shunt_transaction_apply(). */
SHUNT_API shunt_code shunt_redirect(const char *symbol, void *replacement, const shunt_options *options,
                                    shunt_change **change, shunt_error **error);

/* Makes an empty transaction. Nothing is looked up before it is planned. */
SHUNT_API shunt_code shunt_transaction_new(shunt_transaction **transaction, shunt_error **error);
SHUNT_API void shunt_transaction_free(shunt_transaction *transaction); /* accepts NULL */

/* Adds a redirect of `symbol` to `replacement`. Redirects are numbered from 0 in the order in which they are added.
 * `options` may be NULL and is copied. Errors: none but the general ones. */
SHUNT_API shunt_code shunt_transaction_add(shunt_transaction *transaction, const char *symbol, void *replacement,
                                           const shunt_options *options, shunt_error **error);

/* Finds everything that the transaction would write, and writes nothing. The plan stays valid when the transaction is
 * freed. Errors: SHUNT_E_unknown_symbol, SHUNT_E_no_caller, SHUNT_E_no_provider, SHUNT_E_not_a_function,
 * SHUNT_E_several_functions (name a version, a provider, callers, or FILE:NAME), SHUNT_E_original_unresolved,
 * SHUNT_E_bad_replacement, SHUNT_E_image_malformed, SHUNT_E_entry_refused (the entry cannot be redirected, and it was asked
 * for or there is no slot). */
SHUNT_API shunt_code shunt_transaction_plan(const shunt_transaction *transaction, shunt_plan **plan, shunt_error **error);

/* Plans and commits without letting an object come or go in between.
 * Errors: those of shunt_transaction_plan() and of shunt_plan_commit(). */
SHUNT_API shunt_code shunt_transaction_apply(const shunt_transaction *transaction, shunt_change **change,
                                             shunt_error **error);

/* From now on, and for the life of the process, objects that are loaded get the redirects that stand before the first of their
 * constructors runs, whoever loads them; dlopen() is not wrapped. For that the function that the dynamic linker calls for debuggers
 * leads to shunt. The loading thread waits for a transaction of another thread to end, three seconds at most (an allocator that asks the
 * dynamic linker something can make the two wait for each other). Objects without any initialization function
 * still get them when shunt is asked next, and those of other namespaces (dlmopen) not at all. shunt_patch_apply() does this by itself
 * and goes on without it where it is refused. Waits for loads of other threads to end; calling it again does nothing.
 * Errors: SHUNT_E_entry_refused (another dynamic linker, or a debugger is there already), SHUNT_E_no_near_memory,
 * SHUNT_E_code_changed, SHUNT_E_protection_refused, SHUNT_E_system. */
SHUNT_API shunt_code shunt_watch_loads(shunt_error **error);

/* ---- plans -------------------------------------------------------------------------------------------------------- */

/* Where a redirect's slots lie and what they hold. Strings live as long as the plan. */
typedef struct shunt_slot_info {
  const char *caller;  /* path of the object that holds the slot */
  const char *kind;    /* "jump_slot", "glob_dat", "absolute" */
  uint64_t address;    /* of the slot */
  uint64_t value;      /* what it held when the plan was made */
  size_t redirect;     /* which redirect of the transaction */
  int lazy;            /* 1: not yet bound, it holds the dynamic linker's stub */
} shunt_slot_info;

/* How many redirects, and how many slots the plan would write. Never fail; 0 for NULL. */
SHUNT_API size_t shunt_plan_redirects(const shunt_plan *plan);
SHUNT_API size_t shunt_plan_slots(const shunt_plan *plan);

/* The k-th slot. SHUNT_E_invalid_argument when there is none. */
SHUNT_API shunt_code shunt_plan_slot(const shunt_plan *plan, size_t k, shunt_slot_info *info);

/* For the k-th redirect: its symbol; the path of the object that defines the function, "" when none is loaded any more;
 * the original it would have. NULL where k is out of range. */
SHUNT_API const char *shunt_plan_symbol(const shunt_plan *plan, size_t k);
SHUNT_API const char *shunt_plan_provider(const shunt_plan *plan, size_t k);
SHUNT_API void *shunt_plan_original(const shunt_plan *plan, size_t k);

/* What a plan says of the entry of a redirect's function. Strings live as long as the plan. */
typedef struct shunt_entry_info {
  size_t size;          /* sizeof(shunt_entry_info), set by the caller: lets later versions of this struct grow */
  int chosen;           /* 1: the entry would be redirected */
  uint64_t address;     /* of the bytes that would change; 0 when it is not chosen */
  const char *form;     /* "whole instructions" and so on, as the coverage says it; "" when it is not chosen */
  const char *why;      /* why it was chosen, or why not: half a sentence, or "" when entries were not asked for */
  const char *names;    /* all names of the address, with commas; "" when they were not looked at */
} shunt_entry_info;

/* For the k-th redirect. SHUNT_E_invalid_argument when there is none, or when info->size is not one that is known. */
SHUNT_API shunt_code shunt_plan_entry(const shunt_plan *plan, size_t k, shunt_entry_info *info);

/* The coverage as text of several lines: for each function which calls the plan reaches, which it does not, and why;
 * then what a patch exports that matches nothing, and the objects that could not be read. */
SHUNT_API const char *shunt_plan_coverage(const shunt_plan *plan);

/* Writes what the plan says, if every slot still holds what the plan saw. A plan can be committed any number of times,
 * each time the change before it has been reverted; it is not used up.
 * Errors: SHUNT_E_slot_changed, SHUNT_E_plan_stale, SHUNT_E_protection_refused, SHUNT_E_system. With entries also
 * SHUNT_E_thread_in_the_way (a thread is between the instructions that change, or will return there; the message says which and
 * where. It is waited for at most 2 seconds, and the dynamic linker's lock is held meanwhile: a thread that waits for that lock
 * inside the function is in the way until then), SHUNT_E_entry_refused and SHUNT_E_no_near_memory (where there are slots as well,
 * automatic goes on with those), SHUNT_E_code_changed, SHUNT_E_code_page_refused. */
SHUNT_API shunt_code shunt_plan_commit(const shunt_plan *plan, shunt_change **change, shunt_error **error);
SHUNT_API void shunt_plan_free(shunt_plan *plan); /* accepts NULL */

/* ---- changes ------------------------------------------------------------------------------------------------------ */

/* Takes the change's layers out, in any order with other changes. A slot that somebody else wrote since is left as it is
 * and counted by shunt_change_conflicts(). Threads may still be inside the replacements when this returns: their code
 * must stay, and so do the originals that they call. An entry leads to the layer below from then on, or is what it was: that changes
 * one instruction, and no thread can be in the way.
 * Errors: SHUNT_E_wrong_state (reverted before), SHUNT_E_protection_refused, SHUNT_E_code_page_refused, SHUNT_E_system. */
SHUNT_API shunt_code shunt_change_revert(shunt_change *change, shunt_error **error);

/* Frees the handle only. A change that was not reverted stays in place for the life of the process. Accepts NULL. */
SHUNT_API void shunt_change_free(shunt_change *change);

/* 1 while the change is in place, 0 after its revert. */
SHUNT_API int shunt_change_is_applied(const shunt_change *change);

/* Slots that the change wrote, those of objects that were loaded later included. */
SHUNT_API size_t shunt_change_slots(const shunt_change *change);

/* Entries that the change redirects. One whose object was unloaded does not count. */
SHUNT_API size_t shunt_change_entries(const shunt_change *change);

/* While applied: slots that now hold neither this change's replacement nor that of a layer above it. After the revert:
 * slots that were left alone for that reason. The same for entries whose first bytes somebody else changed. An object that was unloaded does not count. */
SHUNT_API size_t shunt_change_conflicts(const shunt_change *change);

/* The original of the k-th redirect, for a call right now: it follows when layers come or go. It is the newest layer
 * below that gets all calls that come to this one (by its slots or by its entry), or else the real function: where its entry is
 * redirected, by whichever layer, that is a copy of its first instructions which goes on in the function. One load; fit for signal handlers. NULL
 * when k is out of range. */
SHUNT_API void *shunt_original(const shunt_change *change, size_t k);

/* ---- patches ------------------------------------------------------------------------------------------------------ */

typedef struct shunt_patch_options {
  size_t size; /* sizeof(shunt_patch_options) */
  /* NULL: every strong function that the file exports replaces the function of its name; names that match nothing are
   * listed in the coverage. Otherwise a NULL-terminated array of NAME or NAME=REPLACEMENT: only these, each of which must
   * match; REPLACEMENT is the name of an exported function of the patch. Weak functions (inline functions, templates)
   * are taken only when they are named here. */
  const char *const *symbols;
  const char *const *callers;     /* as in shunt_options */
  const char *const *not_callers; /* as in shunt_options */
  const char *provider;           /* as in shunt_options */
  shunt_reach reach;              /* as in shunt_options */
  const char *const *also;        /* as in shunt_options: for all functions of the patch */
  /* 1: its code stays mapped after a revert, for the life of the process. See shunt_patch_revert(). */
  int keep;
  int dlsym; /* as in shunt_options: for all functions of the patch */
} shunt_patch_options;

#define SHUNT_PATCH_OPTIONS_INIT {sizeof(shunt_patch_options), NULL, NULL, NULL, NULL, SHUNT_REACH_AUTO, NULL, 0, 0}

/* Loads a patch from a private copy of the file, so that a rebuilt file of the same name is a new patch. What is wrong
 * with the file is found before any of its code runs; its constructors run once, in this call. Nothing is redirected yet.
 * `options` may be NULL. *patch is freed with shunt_patch_free().
 * Errors: SHUNT_E_patch_unreadable, SHUNT_E_patch_malformed, SHUNT_E_patch_architecture, SHUNT_E_patch_no_exports,
 * SHUNT_E_patch_undefined_symbols (each is named), SHUNT_E_patch_not_loadable, SHUNT_E_unknown_symbol (a name in
 * `symbols` that the patch does not export). */
SHUNT_API shunt_code shunt_patch_load(const char *path, const shunt_patch_options *options, shunt_patch **patch,
                                      shunt_error **error);

/* The same from an open descriptor, which stays the caller's. `name` is what the patch is called in messages. */
SHUNT_API shunt_code shunt_patch_load_fd(int fd, const char *name, const shunt_patch_options *options,
                                         shunt_patch **patch, shunt_error **error);

/* What applying the patch would write. Errors: as shunt_transaction_plan(), and SHUNT_E_patch_matches_nothing. */
SHUNT_API shunt_code shunt_patch_plan(const shunt_patch *patch, shunt_plan **plan, shunt_error **error);

/* Applies the patch, all or nothing. Calls that the patch itself makes through a slot to a function that it replaces reach
 * the original. A compiler may make such a call direct, above all that of a function to itself: name the original through a
 * pointer in data, `static int (*volatile const original)(void) = answer;`, or compile with -fsemantic-interposition.
 * Errors: those of shunt_patch_plan() and shunt_plan_commit(); SHUNT_E_wrong_state when it is applied already. */
SHUNT_API shunt_code shunt_patch_apply(shunt_patch *patch, shunt_error **error);

/* Takes the patch out, and has its code unloaded as soon as no thread is in it or can still get into it; its
 * destructors run then. Until that it DRAINS: threads that are inside come out, each by itself. They are looked at once
 * in this call, for some milliseconds, and then by shunt's own thread where it runs (shunt_control_start()), with a
 * pause that grows from a millisecond to a second; otherwise whenever shunt_patch_apply(), shunt_patch_revert(),
 * shunt_patch_draining() or shunt_patch_wait() is called.
 *
 * A thread may run shunt's handler of a real-time signal then. No system call of its fails with EINTR for it (but for
 * ioctl(), whose drivers decide, where a thread that was running when it was asked has just begun it); one with a
 * relative timeout that has just begun may last up to 2 ms longer, once for each time that its thread is asked.
 *
 * What the patch has handed out must not outlive it: pointers to its functions (callbacks, exit handlers, destructors
 * of thread-local keys, threads that it started), to its data (a string that it returned), and exceptions that it
 * threw. That goes for pointers that the PROGRAM took while the patch was applied as well: the address of a redirected
 * function, taken through a slot, is that of the replacement; and for what another patch remembers as its original
 * while this one is below it. Only on stacks and in registers of threads are they seen. Where that cannot be promised,
 * load the patch with `keep`.
 *
 * Code is kept for ever, and shunt_patch_draining() says why: with `keep`; where slots or entries were left alone since
 * others had written them, who may call the replacement still; where there are coroutines (a thread was seen on a stack
 * of its own making, or an object calls swapcontext() or Boost's jump_fcontext()), since one that no thread runs on
 * cannot be seen; where the dynamic linker does not unload it (-z nodelete, unique symbols, thread-local variables that
 * are still to be destroyed). Coroutines that switch by code of the program's own, in a program whose threads were
 * never seen on their stacks, are not seen: keep.
 *
 * A patch that still drains, or is kept, can be applied again. One that was unloaded, or that only the dynamic linker
 * keeps, cannot: SHUNT_E_wrong_state, load it again.
 * Errors: as shunt_change_revert(). */
SHUNT_API shunt_code shunt_patch_revert(shunt_patch *patch, shunt_error **error);

/* What has become of the code of a patch. */
typedef enum shunt_patch_code {
  SHUNT_CODE_IN_PLACE = 0, /* it is applied, or was never reverted */
  SHUNT_CODE_DRAINING = 1, /* it will be unloaded */
  SHUNT_CODE_UNLOADED = 2,
  SHUNT_CODE_KEPT = 3, /* it stays mapped */
} shunt_patch_code;

/* A thread that is in the way of unloading a patch. */
typedef struct shunt_draining_thread {
  int thread;           /* its id, as gettid() */
  uint64_t address;     /* where it stands, or the address in the patch that it holds; 0: not known */
  const char *call;     /* the system call that it is asleep in, as far as that is why; "" otherwise */
  const char *why;      /* half a sentence: "will return into it, or has an address in it on its stack" */
} shunt_draining_thread;

typedef struct shunt_draining {
  size_t size; /* sizeof(shunt_draining), set by the caller: lets later versions of this struct grow */
  shunt_patch_code code;
  const char *text; /* "still draining: threads 12, 40 (asleep in epoll_wait)"; "its code stays: ..." */
  const shunt_draining_thread *threads;
  size_t thread_count;
} shunt_draining;

/* Looks at the code of a patch, and unloads it where that can be done now. What *draining points to lives until this or
 * shunt_patch_wait() is called again for the patch, or it is freed. SHUNT_E_invalid_argument when draining->size is none that is known. */
SHUNT_API shunt_code shunt_patch_draining(shunt_patch *patch, shunt_draining *draining, shunt_error **error);

/* Waits until the code of a patch that was reverted is unloaded, at most `timeout_ms` milliseconds; for ever when that is negative. Not from a
 * function of the patch, which would wait for itself.
 * Errors: SHUNT_E_thread_in_the_way (it still drains; the message says which threads), SHUNT_E_patch_kept (it never will be; the message says
 * why), SHUNT_E_wrong_state (it was not reverted). */
SHUNT_API shunt_code shunt_patch_wait(shunt_patch *patch, int timeout_ms, shunt_error **error);

/* The change that stands for the applied patch, or NULL. It belongs to the patch. */
SHUNT_API const shunt_change *shunt_patch_change(const shunt_patch *patch);

/* The name that the patch was loaded under. */
SHUNT_API const char *shunt_patch_name(const shunt_patch *patch);

/* An exported symbol of the patch, as dlsym() would give it, or NULL. For variables as well as functions. Always NULL while the patch drains
 * and after it was unloaded. */
SHUNT_API void *shunt_patch_symbol(const shunt_patch *patch, const char *symbol);

/* Frees the handle. A patch that is applied stays applied; one that drains goes on draining. One that never was applied is unloaded.
 * Accepts NULL. */
SHUNT_API void shunt_patch_free(shunt_patch *patch);

/* ---- control ------------------------------------------------------------------------------------------------------ */

/* How the process is reached from outside. Set everything to zero, then what is needed; or use SHUNT_CONTROL_OPTIONS_INIT. */
typedef struct shunt_control_options {
  size_t size; /* sizeof(shunt_control_options) */
  /* Where the socket is made. NULL: what the environment variable SHUNT_SOCKET says, or else $XDG_RUNTIME_DIR/shunt/PID.sock,
   * /run/shunt/PID.sock or /tmp/shunt-UID/PID.sock, the first whose folder can be used. "off": no socket. */
  const char *socket;
  /* Patches to be applied now, as a NULL-terminated array of paths, or NULL. What is wrong with one goes to the log. */
  const char *const *patches;
  /* A folder whose *.so files are applied while they are there, or NULL. It is looked through in this call. A file counts when
   * it was renamed into the folder; folder and files must belong to root or the process's user, and neither their group nor others
   * may write them. */
  const char *folder;
  /* A signal that makes shunt look through the folder again, or 0. */
  int signal;
} shunt_control_options;

#define SHUNT_CONTROL_OPTIONS_INIT {sizeof(shunt_control_options), NULL, NULL, NULL, 0}

/* Starts shunt's one thread in this process, "shunt", which blocks all signals and sleeps until it is asked: by the shunt command
 * on the control socket (docs/control.md), by a file in the folder, by the signal. Only root and the process's effective user are
 * answered. A child of fork() has a thread and a socket of its own. The socket's file is removed by exit().
 * `options` may be NULL. Nothing is started when there is neither a socket nor a folder; patches are applied all the same.
 * Errors: SHUNT_E_wrong_state when it runs already, for example by the shim; SHUNT_E_not_permitted when the socket's folder is
 * not safe, or in a program that runs with more rights than its user; SHUNT_E_system when there is no socket or no thread. */
SHUNT_API shunt_code shunt_control_start(const shunt_control_options *options, shunt_error **error);

/* The path of the process's control socket, "" when it has none now (a child of fork() has one a moment later). The string
 * is valid for ever. */
SHUNT_API const char *shunt_control_path(void);

#ifdef __cplusplus
}
#endif

#endif
