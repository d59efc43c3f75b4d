// Package readme holds the README and docs/operating.md to their word: its tests run every command
// in them and compare the README's Go code with the example that is compiled and tested. It has no
// code of its own.
package readme
