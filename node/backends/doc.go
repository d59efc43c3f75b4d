// Package backends records which transaction backends, and which versions of them, the chain of a
// home needs. A transaction means nothing without its backend: a program that lacks one would give
// the transactions of the log other results than the program that acknowledged them.
//
// The record is the file backends.json in the home. A start writes it before any transaction can be
// accepted. It names all backends of the program, whether or not a transaction has used them, since
// they are part of the chain's rules: a node without them refuses what the others execute. A home
// that has no such file, because an older program made it, needs the backends that its log shows.
package backends
