package backendtest

import (
	"errors"
	"maps"

	"github.com/coppice-go/coppice/engines/chain"
)

// EndBlock runs the hook of b at the end of a block, and keeps its writes if it succeeds, or if its
// error is a chain.Reported. The error of a failed view takes precedence. Version and BlockTime
// become those of the hook.
func (s *State) EndBlock(b chain.BlockBackend, at chain.Block) error {
	s.Calls, s.Steps, s.Reads = 0, 0, 0
	s.Version, s.BlockTime = at.HookVersion(), at.Time
	v := &view{state: s, keys: maps.Clone(s.Keys), hook: true}
	if v.keys == nil {
		v.keys = map[string]string{}
	}

	err := b.EndBlock(v, at)
	s.Returned = err
	if v.failed != nil {
		return v.failed
	}
	if err == nil || errors.As(err, new(chain.Reported)) {
		s.Keys = v.keys
	}

	return err
}
