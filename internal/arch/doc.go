// Package arch holds the rules of the repository as tests, each with its reason: which package may
// import which, what a file may hold, and that the files and names in the documents exist. Its only
// code besides tests reads the lines of a Go file, for the tests and for the command measure.
package arch
