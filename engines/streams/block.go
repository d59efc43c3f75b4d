package streams

import (
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The fields of the records that a block is read from (log.proto).
const (
	decidedHash, decidedTime, decidedTxs, decidedProposer, decidedRequest     = 4, 5, 6, 7, 8
	committedChain, committedPeriod, committedHeight, committedHash           = 1, 2, 3, 4
	committedResults, committedChanges, committedValidators, committedAppHash = 6, 7, 8, 9
)

// RequestDecoder reads the votes and the misbehaviour from a driver's own request, as OrderDecided
// has it.
type RequestDecoder func(request []byte) ([]Vote, []Misbehavior, error)

// committed is the head of a BlockCommitted record.
type committed struct {
	chainID   string
	at        Position
	blockHash []byte
	appHash   []byte
}

// readCommitted reads the head of a BlockCommitted record.
func readCommitted(r section) (c committed, err error) {
	w := newWalk(r, 0, r.Size())
	for {
		f, ok, err := w.next()
		if err != nil || !ok {
			return c, err
		}

		var b []byte
		switch f.num {
		case committedChain, committedHash, committedAppHash:
			if b, err = w.content(f); err != nil {
				return c, err
			}
		}

		switch f.num {
		case committedChain:
			c.chainID = string(b)
		case committedPeriod:
			c.at.Period = f.value
		case committedHeight:
			c.at.Height = f.value
		case committedHash:
			c.blockHash = append([]byte(nil), b...)
		case committedAppHash:
			c.appHash = append([]byte(nil), b...)
		}
	}
}

// blockEvents reads the events of a block from its two records, one at a time and in the order of
// R2, without a filter. An event is valid until the next call of next.
type blockEvents struct {
	decided, committed section
	head               committed
	request            RequestDecoder
	bodies, texts      bool
	previous           *previous // nil: values before changes are not asked for

	index   uint64
	stage   int
	txs     *walk // in decided
	results *walk // in committed
	changes *walk // the same
	change  changeField
	tx      uint32
	result  logv1.TxResult
	event   int    // of result
	kept    []byte // of the change that was returned last
	backend string

	header    Block
	txBody    Tx
	changed   Change
	emitted   Emitted
	outcome   Outcome
	validator Validator
	end       End

	// large is a transaction's body that is not in memory: a range of decided. The Tx event that
	// was returned last has it. size is 0 if there is none.
	large struct{ at, size int64 }
}

// changeField is the change that comes next.
type changeField struct {
	field
	tx uint32
	ok bool
}

// The stages of a block.
const (
	atHeader = iota
	atTx
	atChanges
	atEmitted
	atHooks
	atValidators
	atEnd
	atEOF
)

func newBlockEvents(decided, committed section, head committed, o *options) *blockEvents {
	b := &blockEvents{decided: decided, committed: committed, head: head, request: o.request, bodies: o.def.Bodies,
		texts: o.def.Log, previous: o.previous}
	b.restart()
	return b
}

// restart begins with the first event again.
func (b *blockEvents) restart() {
	b.index, b.stage, b.tx = 0, atHeader, 0
	b.txs = newWalk(b.decided, 0, b.decided.Size())
	b.results = newWalk(b.committed, 0, b.committed.Size())
	b.changes = newWalk(b.committed, 0, b.committed.Size())
	b.large.size = 0
	if b.previous != nil {
		b.previous.restart()
	}
}

// next returns the next event with what a filter may ask about it, and io.EOF after the End.
func (b *blockEvents) next() (filtered, error) {
	b.large.size = 0
	for {
		body, err := b.step()
		if err != nil {
			return filtered{}, err
		}
		if body == nil {
			continue
		}

		e := Event{Place: Place{ChainID: b.head.chainID, Position: b.head.at, Index: b.index}, Body: body}
		b.index++
		_, inTx := e.TxNumber()
		return filtered{Event: e, backend: b.backend, code: b.result.Code, inTx: inTx && b.stage < atHooks}, nil
	}
}

// step returns the next body, or nil if it only came to another stage.
func (b *blockEvents) step() (Body, error) {
	switch b.stage {
	case atHeader:
		b.stage = atTx
		if err := b.readHeader(); err != nil {
			return nil, err
		}
		return &b.header, b.peekChange()

	case atTx:
		ok, err := b.readTx()
		if err != nil {
			return nil, err
		}
		if !ok {
			b.stage = atHooks
			return nil, nil
		}
		b.stage = atChanges
		return &b.txBody, nil

	case atChanges:
		if b.change.ok && b.change.tx <= b.tx {
			return b.readChange()
		}
		b.stage, b.event = atEmitted, 0
		return nil, nil

	case atEmitted:
		if b.event < len(b.result.Events) {
			e := b.result.Events[b.event]
			b.event++
			b.emitted = Emitted{Tx: b.tx, Type: e.Type, Attributes: b.emitted.Attributes[:0]}
			for _, a := range e.Attributes {
				b.emitted.Attributes = append(b.emitted.Attributes, Attribute{a.Key, a.Value})
			}
			return &b.emitted, nil
		}
		b.stage = atTx
		b.outcome = Outcome{Tx: b.tx, Code: int32(b.result.Code), Data: b.result.Data}
		if b.texts {
			b.outcome.Log = b.result.Log
		}
		b.tx++
		return &b.outcome, nil

	case atHooks:
		if b.change.ok {
			return b.readChange()
		}
		b.stage = atValidators
		b.changes = newWalk(b.committed, 0, b.committed.Size())
		return nil, nil

	case atValidators:
		f, ok, err := b.changes.find(committedValidators)
		if err != nil {
			return nil, err
		}
		if !ok {
			b.stage = atEnd
			return nil, nil
		}
		return b.readValidator(f)

	case atEnd:
		b.stage = atEOF
		b.end = End{BlockHash: b.head.blockHash, AppHash: b.head.appHash, Events: b.index + 1}
		return &b.end, nil
	}

	return nil, io.EOF
}

func (b *blockEvents) readHeader() error {
	b.header = Block{Hash: b.head.blockHash}
	w := newWalk(b.decided, 0, b.decided.Size())

	for {
		f, ok, err := w.next()
		if err != nil || !ok {
			return err
		}

		switch f.num {
		case decidedTime:
			b.header.Time = time.Unix(0, int64(f.value)).UTC()
		case decidedTxs:
			b.header.Txs++
		case decidedProposer:
			p, err := w.content(f)
			if err != nil {
				return err
			}
			b.header.Proposer = append([]byte(nil), p...)
		case decidedRequest:
			if b.request == nil {
				continue
			}
			raw, err := w.content(f)
			if err != nil {
				return err
			}
			if b.header.Votes, b.header.Misbehavior, err = b.request(raw); err != nil {
				return fmt.Errorf("the driver's request of height %s: %w", b.head.at, err)
			}
		}
	}
}

// headBytes is how much of a transaction's bytes has all before its body.
const headBytes = 16 + chain.MaxBackendName + chain.MaxNonce

// readTx reads the head of the next transaction, and its result.
func (b *blockEvents) readTx() (ok bool, err error) {
	tx, ok, err := b.txs.find(decidedTxs)
	if err != nil || !ok {
		return false, err
	}
	res, ok, err := b.results.find(committedResults)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, fmt.Errorf("%w: height %s has fewer results than transactions", errWire, b.head.at)
	}

	raw, err := b.results.content(res)
	if err != nil {
		return false, err
	}
	if err := parseResult(raw, &b.result); err != nil {
		return false, fmt.Errorf("result %d of height %s: %w", b.tx, b.head.at, err)
	}

	size := tx.size
	head := tx
	head.size = min(head.size, headBytes)
	if b.bodies && size <= MaxPayload {
		head.size = size
	}
	data, err := b.txs.content(head)
	if err != nil {
		return false, err
	}

	b.txBody = Tx{Number: b.tx, ID: b.result.Id, Backend: backendOf(data, size), Size: uint64(size),
		HasBody: b.bodies}
	b.backend = b.txBody.Backend
	switch {
	case b.bodies && size <= MaxPayload:
		b.txBody.Body = data
	case b.bodies:
		b.large.at, b.large.size = tx.at, size
	}

	return true, nil
}

// backendOf returns the backend that the first bytes of a transaction name; empty: none.
func backendOf(head []byte, size int64) string {
	if size > chain.MaxTxBytes {
		return ""
	}
	tx, err := chain.DecodeTx(head)
	if err != nil {
		return ""
	}
	return tx.Backend
}

// parseResult reads a TxResult; r's memory is b's.
func parseResult(b []byte, r *logv1.TxResult) error {
	r.Id, r.Code, r.Data, r.Log, r.Events = nil, 0, nil, "", r.Events[:0]
	return eachField(b, func(num protowire.Number, value uint64, content []byte) error {
		switch num {
		case 1:
			r.Id = content
		case 3:
			r.Code = logv1.Code(value)
		case 4:
			r.Data = content
		case 5:
			r.Log = string(content)
		case 7:
			e, err := parseEmitted(content)
			r.Events = append(r.Events, e)
			return err
		}
		return nil
	})
}

func parseEmitted(b []byte) (*logv1.Emitted, error) {
	e := &logv1.Emitted{}
	err := eachField(b, func(num protowire.Number, _ uint64, content []byte) error {
		switch num {
		case 1:
			e.Type = string(content)
		case 2:
			a := &logv1.Attribute{}
			e.Attributes = append(e.Attributes, a)
			return eachField(content, func(num protowire.Number, _ uint64, content []byte) error {
				if num == 1 {
					a.Key = string(content)
				} else if num == 2 {
					a.Value = string(content)
				}
				return nil
			})
		}
		return nil
	})
	return e, err
}

// peekChange finds the next change, and the transaction that made it.
func (b *blockEvents) peekChange() error {
	f, ok, err := b.changes.find(committedChanges)
	b.change = changeField{field: f, ok: ok}
	if err != nil || !ok {
		return err
	}

	// The version is the first field of a change.
	w := walk{r: b.changes.r, at: f.at, end: f.at + f.size, win: b.changes.win, off: b.changes.off}
	version, ok, err := w.find(1)
	if err != nil || !ok {
		return err
	}
	raw, err := w.content(version)
	if err != nil {
		return err
	}
	b.changes.win, b.changes.off = w.win, w.off

	return eachField(raw, func(num protowire.Number, value uint64, _ []byte) error {
		if num == 3 {
			b.change.tx = uint32(value)
		}
		return nil
	})
}

// readChange returns the change that peekChange has found, and finds the next one.
func (b *blockEvents) readChange() (Body, error) {
	raw, err := b.changes.content(b.change.field)
	if err != nil {
		return nil, err
	}
	if len(raw) <= windowSize {
		b.kept = append(b.kept[:0], raw...) // the walk looks for the next change in the same window
		raw = b.kept
	}

	b.changed = Change{Tx: b.change.tx}
	err = eachField(raw, func(num protowire.Number, value uint64, content []byte) error {
		switch num {
		case 2:
			b.changed.Key = content
		case 3:
			b.changed.Value = content
		case 4:
			b.changed.Delete = value != 0
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	if b.previous != nil {
		b.changed.Before, err = b.previous.find(b.committed, b.head.at, b.changed.Key, b.change.field)
		if err != nil {
			return nil, err
		}
	}

	return &b.changed, b.peekChange()
}

func (b *blockEvents) readValidator(f field) (Body, error) {
	raw, err := b.changes.content(f)
	if err != nil {
		return nil, err
	}

	b.validator = Validator{}
	err = eachField(raw, func(num protowire.Number, value uint64, content []byte) error {
		switch num {
		case 1:
			b.validator.KeyType = string(content)
		case 2:
			b.validator.PubKey = content
		case 3:
			b.validator.Power = int64(value)
		}
		return nil
	})

	return &b.validator, err
}
