//go:build !linux

package process

// adopt does nothing: only on Linux can this package tell orphans from the program's own children.
func (r *running) adopt() {}

func (r *running) disown() {}
