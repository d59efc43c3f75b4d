// Package early keeps the packages of the terminal view from asking the terminal for its colours
// when the program starts. Bubble Tea 1 asks for the colour of the background in an init function,
// thus in every command of the program: it writes an escape sequence, waits for the answer up to
// five seconds, and swallows what was typed meanwhile. It does not ask if CI is set.
//
// This package imports only the standard library, so it is initialised before Bubble Tea, which
// depends on packages whose import paths are sorted after this one's (see "Package initialization"
// in the Go specification). TestNoCommandAsksTheTerminal checks the effect. See ADR 0195.
package early

import "os"

const name = "CI"

var added bool

func init() {
	if os.Getenv(name) == "" {
		added = os.Setenv(name, "1") == nil
	}
}

// Restore gives the process the environment that it was started with. Call it first in main.
func Restore() {
	if added {
		_ = os.Unsetenv(name) // it cannot fail: the name is valid
	}
}
