//go:build !linux

package process

import (
	"errors"
	"os"
)

const canPTY = false

// openTerminal is not reached, because a Spec with a PTY is invalid here.
func openTerminal(PTY) (master, slave *os.File, err error) { return nil, nil, errors.ErrUnsupported }
