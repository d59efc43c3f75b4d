package command

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// loggedTx is a transaction of a record for people: the id in hexadecimal, the operations in words.
type loggedTx struct {
	ID         string     `json:"id"`
	Backend    string     `json:"backend,omitempty"`
	ValidUntil *time.Time `json:"valid_until,omitempty"`
	Ops        []string   `json:"ops,omitempty"`  // of backend kv
	Code       string     `json:"code,omitempty"` // of a result
	Log        string     `json:"log,omitempty"`
}

// transactionsOf returns the transactions of a record.
func transactionsOf(m proto.Message) (all []loggedTx) {
	switch m := m.(type) {
	case *logv1.TxLaunched:
		return []loggedTx{txInWords(m.Tx)}

	case *logv1.TxExpired:
		return []loggedTx{{ID: idInWords(m.Id)}}

	case *logv1.OrderDecided:
		for _, raw := range m.Txs {
			all = append(all, txInWords(raw))
		}

	case *logv1.BlockCommitted:
		for _, r := range m.Results {
			all = append(all, loggedTx{ID: idInWords(r.Id), Code: r.Code.String(), Log: r.Log})
		}
	}
	return all
}

func txInWords(raw []byte) loggedTx {
	out := loggedTx{ID: chain.HashTx(raw).String()}
	tx, err := chain.DecodeTx(raw)
	if err != nil {
		out.Log = err.Error()
		return out
	}

	out.Backend = tx.Backend

	if !tx.ValidUntil.IsZero() {
		until := tx.ValidUntil.UTC()
		out.ValidUntil = &until
	}

	if tx.Backend == kv.Name {
		ops, err := kv.Decode(tx.Body)
		if err != nil {
			out.Log = err.Error()
		}
		for _, o := range ops {
			out.Ops = append(out.Ops, o.String())
		}
	}

	return out
}

func idInWords(b []byte) string {
	id, err := chain.TxIDFromBytes(b)
	if err != nil {
		return err.Error()
	}
	return id.String()
}
