package mempool

import (
	"errors"
	"fmt"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines/chain"
)

// Suspects are the transactions whose backend code was running when a process of this node died. A
// backend that ends the process leaves no result and nobody to notice; its transaction would be
// executed again by each process that follows.
type Suspects interface {
	// Deaths answers at how many deaths id was in flight: before it had its place, and at it.
	Deaths(id chain.TxID) (eager, placed int)

	// Forget drops transactions that have ended.
	Forget(ids []chain.TxID) error

	// File is where a person finds what is known, and may remove it.
	File() string
}

// ErrDeadly: a decided transaction has ended the process as often as it may. The chain cannot go on
// without it, and the node does not execute it again by itself.
var ErrDeadly = errors.New("deadly transaction")

// maxDeaths is how many deaths are too many for coincidence.
const maxDeaths = 2

func (p *pool) suspect(id chain.TxID) bool {
	eager, placed := p.Suspects.Deaths(id)
	return eager+placed > 0
}

// careful tells whether e is executed at its place only: to execute it earlier gains time, and
// costs the process.
func (p *pool) careful(e *entry) bool {
	if !e.suspect {
		return false
	}
	eager, placed := p.Suspects.Deaths(e.id)
	return eager+placed >= maxDeaths
}

// refuse ends the node when the block has a transaction that would end it.
func (p *pool) checkDeadly(e *entry, b chain.Block) error {
	if !e.suspect {
		return nil
	}
	_, placed := p.Suspects.Deaths(e.id)
	if placed < maxDeaths {
		return nil
	}
	return fmt.Errorf("%w: transaction %v of backend %q, decided in %v, was executing at its place when the process "+
		"died, %d times; "+
		"correct the backend, or find what else ended the process, then remove %s and start again: %w",
		ErrDeadly, e.id, e.tx.Backend, b, placed, p.Suspects.File(), suture.ErrTerminateSupervisorTree)
}

// forgetCleared forgets what is known of suspects that have ended.
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

// unsuspected is for a node that learns nothing from its deaths.
type unsuspected struct{}

func (unsuspected) Deaths(chain.TxID) (eager, placed int) { return 0, 0 }
func (unsuspected) Forget([]chain.TxID) error             { return nil }
func (unsuspected) File() string                          { return "" }
