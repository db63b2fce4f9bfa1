/* empty_audit.c: a library for LD_AUDIT that audits nothing: what it costs to have one at all, beside the shim. */
unsigned la_version(unsigned version);
unsigned la_version(unsigned version) { return version; }
