// Package arch holds the rules of the repository's build as tests, each with its reason: which
// package may import which, what a file may hold, and that the documents name what is there. Its
// only code of its own reads the lines of a Go file, for the tests and for measure.
package arch
