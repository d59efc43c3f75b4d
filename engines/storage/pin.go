package storage

import (
	"fmt"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
)

// Pinned is the committed state at one height. It can be read piece by piece for any length of
// time, beside commits and beside restarts of the engines that use the state. Closing the DB closes
// it too. It is safe for concurrent use.
type Pinned struct {
	d     *DB
	at    record
	reset *chain.Reset // as in chain.State

	mu sync.Mutex
	s  *Reader // nil: closed
}

// Pin pins the committed state of this moment. It is cheap to make, but as long as the pin is held,
// Pebble cannot drop overwritten values. The caller must close it.
func (d *DB) Pin() (*Pinned, error) {
	s, err := d.reader()
	if err != nil {
		return nil, err
	}

	p := &Pinned{d: d, s: s, at: s.now.record, reset: s.now.reset}
	d.pinning.Lock()
	defer d.pinning.Unlock()

	if d.pins == nil {
		d.pins = make(map[*Pinned]struct{})
	}

	d.pins[p] = struct{}{}

	return p, nil
}

// Height returns the pinned height.
func (p *Pinned) Height() uint64 { return p.at.Height }

// Period returns the period of Height.
func (p *Pinned) Period() uint64 { return p.at.Period }

// Reset returns the reset that is due in the pinned state, or nil if none is.
func (p *Pinned) Reset() *chain.Reset {
	if p.reset == nil || p.reset.Epoch != p.at.Period {
		return nil
	}
	return p.reset
}

// ChainID returns the chain's name.
func (p *Pinned) ChainID() string { return p.at.ChainID }

// AppHash returns the app hash at Height.
func (p *Pinned) AppHash() []byte { return p.at.AppHash }

// Clock returns the latest block time ever committed. Ids whose valid_until is before it are
// forgotten.
func (p *Pinned) Clock() time.Time { return time.Unix(0, p.at.ClockNs) }

// Size returns the number of latest keys and the number of applied ids.
func (p *Pinned) Size() (keys, ids uint64) { return p.at.Keys, p.at.IDs }

// Read runs f on the pinned state. f must not keep the Reader. Closing the DB waits for f, so f
// must be short. After the DB or the Pinned is closed, Read returns ErrClosed.
func (p *Pinned) Read(f func(*Reader) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s == nil {
		return fmt.Errorf("state %s at height %d: %w", p.d.dir, p.Height(), ErrClosed)
	}
	return f(p.s)
}

// Close releases the pinned state. Closing it again does nothing.
func (p *Pinned) Close() error {
	p.d.pinning.Lock()
	delete(p.d.pins, p)
	p.d.pinning.Unlock()
	return p.end()
}

func (p *Pinned) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s == nil {
		return nil
	}
	s := p.s
	p.s = nil
	return s.Close()
}

// unpin closes all pins. Pebble cannot be closed while one of its snapshots is open.
func (d *DB) unpin() {
	d.pinning.Lock()
	pins := d.pins
	d.pins = nil
	d.pinning.Unlock()
	for p := range pins {
		_ = p.end() // closing an open Pebble snapshot returns no error
	}
}
