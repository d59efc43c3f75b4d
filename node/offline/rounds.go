package offline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/exit"
)

// RoundsOutcome is what a service of rounds has come to at the end of a block.
type RoundsOutcome struct {
	Round  rounds.Name     `json:"round"`
	Count  uint64          `json:"count"`
	Period uint64          `json:"period"`
	State  json.RawMessage `json:"state"`
	Reset  bool            `json:"reset"` // a reset of the chain is due
}

// RoundsDifference is the first block at whose end the outcomes differ.
type RoundsDifference struct {
	Epoch  uint64        `json:"epoch"`
	Height uint64        `json:"height"`
	In     []string      `json:"in"`  // the fields of RoundsOutcome that differ, as in JSON
	Was    RoundsOutcome `json:"was"` // in the log
	Is     RoundsOutcome `json:"is"`
}

// RoundsReplayed describes what ReplayRounds has done.
type RoundsReplayed struct {
	ChainID    string
	Blocks     uint64 // whose outcomes were compared
	Payloads   uint64 // and ticks, in these blocks
	From       uint64 // the height of the first one
	Epoch      uint64 // of the last one
	Height     uint64
	Difference *RoundsDifference // nil: none differs
}

// ReplayRounds executes the logged blocks of a stopped home with another service of rounds, which
// is among o.Backends, and compares its outcome with the logged one after each block. It ends at
// the first difference. What else the service keeps (votes, deadlines, offences) may differ all
// along: a longer timeout makes a difference only where one fires.
//
// The blocks are those of the log, whatever the service would have asked for, and so are the
// changes of the other backends, which are not executed. ReplayRounds checks the home as Verify
// does with SkipReplay and SkipConsensus, and changes nothing in it. If the log begins with a
// snapshot, so do both services. The errors are those of Verify.
func ReplayRounds(ctx context.Context, dir string, o VerifyOptions) (RoundsReplayed, error) {
	o.SkipReplay, o.SkipConsensus = true, true
	b := &besides{keys: map[string][]byte{}}

	v, err := verify(ctx, dir, o, b)
	b.report.ChainID = v.ChainID
	if errors.Is(err, errDiffers) {
		return b.report, nil
	}
	return b.report, err
}

// errDiffers ends a replay at the first difference.
var errDiffers = errors.New("the outcome differs")

// besides executes the blocks of a verification with another service, whose state it has beside
// that of the log.
type besides struct {
	backend chain.BlockBackend
	logged  *storage.DB // the state that keys began with
	keys    map[string][]byte
	report  RoundsReplayed

	epoch   uint64 // of the block before
	adopted bool   // the block has a change of governance, which may be a reset
}

// bind takes the service from the backends.
func (s *besides) bind(backends map[string]chain.Backend) error {
	b, ok := backends[rounds.Backend].(chain.BlockBackend)
	if !ok {
		return fmt.Errorf("%w: there is no service of rounds among the backends", exit.ErrConfig)
	}
	s.backend = b
	return nil
}

// execute executes a block, on top of the block before it. db has the state before the block, as
// the log has it.
func (s *besides) execute(db *storage.DB, b chain.Block, conduct func(chain.Block) (absent, double [][]byte, err error),
) error {
	s.adopted = false
	if err := s.begin(db, b); err != nil || db.State().InHold() { // a held block changes nothing
		return err
	}
	refused, err := db.Begin(b) // Redo drops what is staged
	if err != nil {
		return err
	}

	for i, raw := range b.Txs {
		if refused[i] != nil {
			continue
		}
		tx, err := chain.DecodeTx(raw)
		if err != nil {
			return err
		}
		s.adopted = s.adopted || tx.Backend == chain.GovernanceBackend
		if tx.Backend != rounds.Backend {
			continue
		}

		s.report.Payloads++
		v := s.view(b, uint32(i))
		if _, err := s.backend.Execute(v, tx.Body); err == nil {
			v.keep()
		}
	}

	if conduct != nil {
		if b.Absent, b.DoubleSigned, err = conduct(b); err != nil {
			return err
		}
	}

	v := s.view(b, b.HookVersion().Index)
	if err := s.backend.EndBlock(v, b); err == nil || errors.As(err, new(chain.Reported)) {
		v.keep()
	}
	return nil
}

// begin takes over the logged state if it does not follow from the blocks before, and ends a reset.
func (s *besides) begin(db *storage.DB, b chain.Block) error {
	if s.logged == db {
		if b.Period != s.epoch {
			delete(s.keys, chain.ResetKey)
		}
		s.epoch = b.Period
		return nil
	}

	clear(s.keys)
	s.logged, s.epoch = db, b.Period
	if s.report.Blocks == 0 {
		s.report.From = b.Height
	}
	if db.State().Height == 0 {
		return nil
	}

	get := loggedKey(db)
	written, err := replicated.Written(get)
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}
	maps.Copy(s.keys, written)
	reset, due, err := get([]byte(chain.ResetKey))
	if due {
		s.keys[chain.ResetKey] = reset
	}
	return err
}

// loggedKey returns a function that reads keys of a state as of its last block.
func loggedKey(db *storage.DB) func(key []byte) ([]byte, bool, error) {
	return func(key []byte) ([]byte, bool, error) {
		value, found, _, err := db.Get(key, 0)
		return value, found, err
	}
}

// compare compares the outcomes at the end of a block that is committed in db.
func (s *besides) compare(db *storage.DB, b chain.Block) error {
	was, err := outcomeOf(loggedKey(db))
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	if s.adopted && was.Reset {
		s.keys[chain.ResetKey] = []byte("of governance")
	}
	is, err := outcomeOf(func(key []byte) ([]byte, bool, error) {
		value, found := s.keys[string(key)]
		return value, found, nil
	})
	if err != nil {
		return err
	}

	s.report.Blocks++
	s.report.Epoch, s.report.Height = b.Period, b.Height
	in := was.differsIn(is)
	if len(in) == 0 {
		return nil
	}

	s.report.Difference = &RoundsDifference{Epoch: b.Period, Height: b.Height, In: in, Was: was, Is: is}
	return errDiffers
}

// outcomeOf reads the outcome of a service.
func outcomeOf(get func(key []byte) ([]byte, bool, error)) (RoundsOutcome, error) {
	st, _, err := replicated.Read[json.RawMessage](get)
	if err != nil {
		return RoundsOutcome{}, err
	}
	_, reset, err := get([]byte(chain.ResetKey))
	return RoundsOutcome{Round: st.Round, Count: st.Count, Period: st.Period, State: st.App, Reset: reset}, err
}

// differsIn returns the fields in which the outcomes differ.
func (o RoundsOutcome) differsIn(other RoundsOutcome) (fields []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"round", o.Round == other.Round},
		{"count", o.Count == other.Count},
		{"period", o.Period == other.Period},
		{"state", bytes.Equal(o.State, other.State)},
		{"reset", o.Reset == other.Reset},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// besidesView is the view of one transaction, or of the hook, on the state of a besides.
type besidesView struct {
	s      *besides
	at     chain.Version
	time   time.Time
	writes map[string][]byte // nil deletes
}

func (s *besides) view(b chain.Block, index uint32) *besidesView {
	return &besidesView{s: s, time: b.Time, writes: map[string][]byte{},
		at: chain.Version{Period: b.Period, Height: b.Height, Index: index}}
}

// keep makes the writes part of the state.
func (v *besidesView) keep() {
	for key, value := range v.writes {
		if v.s.keys[key] = value; value == nil {
			delete(v.s.keys, key)
		}
	}
}

// Get implements chain.View.
func (v *besidesView) Get(key []byte) ([]byte, bool, error) {
	if value, written := v.writes[string(key)]; written {
		return bytes.Clone(value), value != nil, nil
	}
	value, found := v.s.keys[string(key)]
	return bytes.Clone(value), found, nil
}

// Put implements chain.View.
func (v *besidesView) Put(key, value []byte) error {
	v.writes[string(key)] = append([]byte{}, value...)
	return nil
}

// Delete implements chain.View.
func (v *besidesView) Delete(key []byte) error {
	v.writes[string(key)] = nil
	return nil
}

// Version implements chain.View.
func (v *besidesView) Version() (chain.Version, error) { return v.at, nil }

// BlockTime implements chain.View.
func (v *besidesView) BlockTime() (time.Time, error) { return v.time, nil }

// Emit implements chain.View. Hooks emit nothing.
func (v *besidesView) Emit(string, ...chain.Attribute) error { return chain.ErrBadEvent }

// Step implements chain.View. The work was within the limits when the block was made.
func (v *besidesView) Step(uint64) error { return nil }
