//go:build !linux

package command

import "testing"

// topScreen stands for the terminal of a "coppice top": tests have terminals on Linux only.
type topScreen struct{}

func (*topScreen) shows(*testing.T, string, ...string) error { return nil }
