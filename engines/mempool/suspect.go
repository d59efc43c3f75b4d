package mempool

import (
	"errors"
	"fmt"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines/chain"
)

// Suspects knows the transactions whose backend code was running when a process of this node died.
// A backend that ends the process leaves no result, and nothing in the process can notice. Without
// this record, each later process would execute the transaction again.
type Suspects interface {
	// Deaths returns how often a process died while the code of id was running: before id had its
	// place (eager), and at its place (placed).
	Deaths(id chain.TxID) (eager, placed int)

	// Forget drops transactions that have ended.
	Forget(ids []chain.TxID) error

	// File returns the path of the file with the deaths, which a person may read and remove.
	File() string
}

// ErrDeadly: a decided transaction has ended the process maxDeaths times. The chain cannot go on
// without the transaction, and the node does not execute it again by itself.
var ErrDeadly = errors.New("deadly transaction")

// maxDeaths is the number of deaths that is no longer taken for a coincidence.
const maxDeaths = 2

// suspect reports whether the code of id was running when a process of this node died.
func (p *pool) suspect(id chain.TxID) bool {
	eager, placed := p.Suspects.Deaths(id)
	return eager+placed > 0
}

// careful reports whether e may be executed only at its place. Executing e earlier would save time
// but could end the process.
func (p *pool) careful(e *entry) bool {
	if !e.suspect {
		return false
	}
	eager, placed := p.Suspects.Deaths(e.id)
	return eager+placed >= maxDeaths
}

// checkDeadly returns an error that ends the node if executing e, which is in b, is likely to end
// the process again.
func (p *pool) checkDeadly(e *entry, b chain.Block) error {
	if !e.suspect {
		return nil
	}
	_, placed := p.Suspects.Deaths(e.id)
	if placed < maxDeaths {
		return nil
	}
	return fmt.Errorf("%w: transaction %v of backend %q, decided in %v, was executing at its place when the process "+
		"died, %d times; correct the backend, or find what else ended the process, then remove %s and start again: %w",
		ErrDeadly, e.id, e.tx.Backend, b, placed, p.Suspects.File(), suture.ErrTerminateSupervisorTree)
}

// forgetCleared forgets the deaths of suspects that have ended.
func (p *pool) forgetCleared() error {
	if len(p.cleared) == 0 {
		return nil
	}
	if err := p.Suspects.Forget(p.cleared); err != nil {
		return fmt.Errorf("forgetting %d suspects: %w", len(p.cleared), err)
	}
	p.cleared = nil
	return nil
}

// unsuspected is the Suspects of a node that keeps no record of its deaths.
type unsuspected struct{}

func (unsuspected) Deaths(chain.TxID) (eager, placed int) { return 0, 0 }
func (unsuspected) Forget([]chain.TxID) error             { return nil }
func (unsuspected) File() string                          { return "" }
