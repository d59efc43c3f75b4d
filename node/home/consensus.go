package home

import (
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
)

// CheckKind returns an error if the home belongs to another kind of consensus than k.
func CheckKind(home string, k consensus.Kind) error {
	for _, other := range consensus.Kinds() {
		h, ok := other.(consensus.Homed)
		if !ok || other.Name() == k.Name() {
			continue
		}
		if err := h.Claim(home); err != nil {
			return fmt.Errorf("%w: consensus.kind = %q, and %w", exit.ErrConfig, k.Name(), err)
		}
	}
	return nil
}

// AddBackends adds transaction backends to backends: those of each given kind of consensus to which
// the home belongs. A home belongs to a kind if it has the kind's files, and if its configuration
// names the kind: then the error says which files are gone.
func AddBackends(home string, backends map[string]chain.Backend, kinds ...consensus.Kind) error {
	for _, k := range kinds {
		b, ok := k.(consensus.BackendKind)
		if !ok || !belongs(home, k) {
			continue
		}

		g, err := ReadGenesis(home)
		if err != nil {
			return err
		}
		theirs, err := b.Backends(home, g)
		if err != nil {
			return fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}

		for _, b := range theirs {
			backends[b.Name()] = b
		}
	}
	return nil
}

// BindBackends replaces each backend that depends on the genesis by the one of the home's chain.
// Errors are exit.ErrConfig.
func BindBackends(home string, backends map[string]chain.Backend) error {
	g, err := ReadGenesis(home)
	if err != nil {
		return err
	}
	if err := chain.BindBackends(g, backends); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return nil
}

// belongs reports whether a home has the files of a kind, or its configuration names the kind.
func belongs(home string, k consensus.Kind) bool {
	h, ok := k.(consensus.Homed)
	return ok && h.Claim(home) != nil || names(home, k)
}

// names reports whether the configuration of a home names a kind.
func names(home string, k consensus.Kind) bool {
	c, err := config.Load(home)
	return err == nil && c.Consensus.Kind == k.Name()
}

// CheckNoFiles returns an error if a home has files of a kind of consensus. A backup would lack
// them if nothing hands out a copy.
func CheckNoFiles(dir string, k consensus.Kind) error {
	if h, homed := k.(consensus.Homed); !homed || h.Claim(dir) == nil {
		return nil
	}
	return fmt.Errorf("%w: a home with consensus %s has files that no backup has: stop the node and copy the whole "+
		"home instead", exit.ErrConfig, k.Name())
}

// Restorer returns the kind of consensus that the configuration in dir names, if that kind keeps
// files of its own in the home, or nil. A kind whose files no backup has is an error.
func Restorer(dir string) (consensus.Restorer, config.Config, error) {
	c, err := config.Load(dir)
	if err != nil {
		return nil, c, err
	}
	k, ok := consensus.Lookup(c.Consensus.Kind)
	if !ok {
		return nil, c, fmt.Errorf("%w: consensus.kind = %q: this program has no such kind", exit.ErrConfig,
			c.Consensus.Kind)
	}

	if r, ok := k.(consensus.Restorer); ok {
		return r, c, nil
	}
	return nil, c, CheckNoFiles(dir, k)
}

// TraitsOf returns the traits of the kind of consensus that the configuration in dir names. If the
// configuration is invalid, it returns no traits; the code that uses the configuration reports the
// error.
func TraitsOf(dir string) consensus.Traits {
	c, err := config.Load(dir)
	k, ok := consensus.Lookup(c.Consensus.Kind)
	if err != nil || !ok {
		return consensus.Traits{}
	}

	return k.Traits()
}
