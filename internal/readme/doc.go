// Package readme holds the README to its word: its tests run every command in it and compare its Go code with the example
// that is compiled and tested. It has no code of its own.
package readme
