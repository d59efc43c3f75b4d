package offline

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// pending is what the records of a log leave acknowledged and without an end. It holds no more than
// that.
type pending map[chain.TxID]uint64 // index of its first TxLaunched

func newPending() pending { return make(pending) }

// entry takes the next entry of the log. Errors are ErrDamage.
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

// record takes the next record of the log.
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

func (p pending) end(id []byte) {
	if id, err := chain.TxIDFromBytes(id); err == nil {
		delete(p, id)
	}
}

// floor is the oldest record that is needed to know all of them; none where there is none.
func (p pending) floor(none uint64) uint64 {
	for _, index := range p {
		none = min(none, index)
	}
	return none
}
