package dump

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// MaxRecords is the number of the newest records of the log that an archive describes.
const MaxRecords = 1000

// Records describes records of the log, one JSON object a line. It leaves out what the records
// carry for users: the bodies of transactions, keys, values and results.
type Records struct{ b bytes.Buffer }

// Bytes returns the lines.
func (r *Records) Bytes() []byte { return r.b.Bytes() }

// recordJSON describes one record.
type recordJSON struct {
	Index   uint64     `json:"index"`
	History string     `json:"history,omitempty"`
	Kind    string     `json:"kind"`
	Bytes   int        `json:"bytes"`
	ChainID string     `json:"chain_id,omitempty"`
	Period  uint64     `json:"period,omitempty"`
	Height  uint64     `json:"height,omitempty"`
	AppHash string     `json:"app_hash,omitempty"`
	Hash    string     `json:"block_hash,omitempty"`
	Time    *time.Time `json:"time,omitempty"` // block time, or when a transaction was received
	ID      string     `json:"id,omitempty"`   // of a transaction
	Txs     int        `json:"txs,omitempty"`
	Failed  int        `json:"failed,omitempty"` // transactions with another code than 0
	Changes int        `json:"changes,omitempty"`
	Source  string     `json:"source,omitempty"`
	Decided uint64     `json:"decided_index,omitempty"`
}

// Add describes a record.
func (r *Records) Add(index uint64, history, kind string, m proto.Message) error {
	j := recordJSON{Index: index, History: history, Kind: kind, Bytes: proto.Size(m)}

	if s, ok := m.(interface {
		GetChainId() string
		GetPeriod() uint64
	}); ok {
		j.ChainID, j.Period = s.GetChainId(), s.GetPeriod()
	}
	if s, ok := m.(interface{ GetHeight() uint64 }); ok {
		j.Height = s.GetHeight()
	}
	if s, ok := m.(interface{ GetAppHash() []byte }); ok {
		j.AppHash = hex.EncodeToString(s.GetAppHash())
	}
	if s, ok := m.(interface{ GetBlockHash() []byte }); ok {
		j.Hash = hex.EncodeToString(s.GetBlockHash())
	}
	if s, ok := m.(interface{ GetSource() string }); ok {
		j.Source = s.GetSource()
	}

	switch m := m.(type) {
	case *logv1.TxLaunched:
		j.ID, j.Time = chain.HashTx(m.Tx).String(), timeOf(m.ReceivedNs)
	case *logv1.TxExpired:
		j.ID, j.Time = hex.EncodeToString(m.Id), timeOf(m.BlockTimeNs)
	case *logv1.OrderDecided:
		j.Time, j.Txs = timeOf(m.TimeNs), len(m.Txs)
	case *logv1.BlockCommitted:
		j.Time, j.Txs, j.Changes, j.Decided = timeOf(m.TimeNs), len(m.Results), len(m.Changes), m.DecidedIndex
		for _, res := range m.Results {
			if res.Code != 0 {
				j.Failed++
			}
		}
	}

	return json.NewEncoder(&r.b).Encode(j)
}

func timeOf(ns int64) *time.Time {
	t := time.Unix(0, ns).UTC()
	return &t
}
