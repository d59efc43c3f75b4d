//go:build !linux

package process

import (
	"errors"
	"os"
)

const canLimit = false

// set is not reached with limits, because such a Spec is invalid here.
func (l Limits) set(int) error { return nil }

// openImage is not reached, because a Spec with an Executable is invalid here.
func (r *running) openImage() (*os.File, error) { return nil, errors.ErrUnsupported }

func explainImage(_ string, err error) error { return err }
