// Package tty is a terminal for tests: a pseudo-terminal, and the screen that a program draws on
// it. It needs Linux.
package tty
