// Package arch holds the rules of the repository's build as tests, each with its reason: who may
// import whom, what a file may hold, and that the documents name what is there. It has no code of
// its own.
package arch
