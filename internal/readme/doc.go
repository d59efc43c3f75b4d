// Package readme checks the README and docs/operating.md: its tests run every command in them, and
// compare the README's Go code with the example that is compiled and tested. It has no code of its
// own.
package readme
