// Package shares counts what each sender has in CometBFT's mempool.
package shares

import (
	"sync"

	"github.com/coppice-go/coppice/engines/chain"
)

// Shares counts the transactions of each sender that CometBFT's mempool holds, so that one sender
// cannot fill it (chain.Bounded). It is safe for concurrent use, and its zero value is empty.
//
// CometBFT does not tell what leaves its mempool without a block, because it is full for instance.
// After each block it checks again what is left. So what was neither admitted nor checked again
// during keepBlocks blocks is no longer there.
type Shares struct {
	mu     sync.Mutex
	held   map[chain.TxID]share
	of     map[string]int // held, by sender
	blocks uint64         // since the process began
}

// share is a transaction in CometBFT's mempool.
type share struct {
	sender string
	seen   uint64 // the value of blocks when CometBFT last asked about it
}

// keepBlocks is 2 because CometBFT may still be checking the rest of one block again when it
// commits the next.
const keepBlocks = 2

// Begin forgets everything: a process of CometBFT starts with an empty mempool.
func (s *Shares) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.of, s.blocks = nil, nil, 0
}

// Look reports whether a transaction is held, and otherwise whether there is room for one more of
// its sender, of which at most the given number are held.
func (s *Shares) Look(id chain.TxID, sender string, most int) (held, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held = s.held[id]
	return held, s.of[sender] < most
}

// Admit counts a transaction of a sender, and reports whether at most the given number of them are
// held. A transaction that is held already is admitted again.
func (s *Shares) Admit(id chain.TxID, sender string, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if _, held := s.held[id]; !held {
		if s.of[sender] >= most {
			return false
		}
		if s.held == nil {
			s.held, s.of = map[chain.TxID]share{}, map[string]int{}
		}
		s.of[sender]++
	}
	s.held[id] = share{sender, s.blocks}

	return true
}

// Release forgets a transaction that CometBFT removes.
func (s *Shares) Release(id chain.TxID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(id)
}

func (s *Shares) drop(id chain.TxID) {
	h, held := s.held[id]
	if !held {
		return
	}
	delete(s.held, id)
	if s.of[h.sender]--; s.of[h.sender] == 0 {
		delete(s.of, h.sender)
	}
}

// Committed forgets the transactions of a block, and those that CometBFT has not asked about for
// keepBlocks blocks.
func (s *Shares) Committed(txs [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.blocks++
	if len(s.held) == 0 {
		return
	}
	for _, tx := range txs {
		s.drop(chain.HashTx(tx))
	}
	for id, h := range s.held {
		if h.seen+keepBlocks < s.blocks {
			s.drop(id)
		}
	}
}
