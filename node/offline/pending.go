package offline

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// pending is the set of the transactions that a log has acknowledged and that have not ended, each
// with the index of its first TxLaunched.
type pending map[chain.TxID]uint64

// newPending returns the empty set.
func newPending() pending { return make(pending) }

// entry updates p with the next entry of the log. Errors are exit.ErrDamage.
func (p pending) entry(e eventlog.Entry) error {
	switch e.Kind {
	case chain.KindTxLaunched, chain.KindTxExpired, chain.KindBlockCommitted:
	default:
		return nil
	}

	m, err := chain.DecodeRecord(e)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	p.record(e.Index, m)
	return nil
}

// record updates p with the next record of the log.
func (p pending) record(index uint64, m proto.Message) {
	switch m := m.(type) {
	case *logv1.TxLaunched:
		if id := chain.HashTx(m.Tx); p[id] == 0 {
			p[id] = index
		}

	case *logv1.TxExpired:
		p.end(m.Id)

	case *logv1.BlockCommitted:
		for _, r := range m.Results {
			p.end(r.Id)
		}
	}
}

// end removes a transaction.
func (p pending) end(id []byte) {
	if id, err := chain.TxIDFromBytes(id); err == nil {
		delete(p, id)
	}
}

// floor returns the lowest index of a TxLaunched in p. If p is empty, it returns none.
func (p pending) floor(none uint64) uint64 {
	for _, index := range p {
		none = min(none, index)
	}
	return none
}
