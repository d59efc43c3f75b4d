package storage

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// staging is the block that is being executed. Pebble holds none of it.
type staging struct {
	block chain.Block
	slots []slot
	next  int             // every slot before this one is done, and the changes there are in newest
	first []*logv1.Change // what the block changes before its transactions

	hooks    []*logv1.Change // of the hooks at the end of the block
	hooksRan bool            // no more of them are taken

	used   int                      // the bytes used of chain.MaxOutcomeBytes
	newest map[string]*logv1.Change // what the block wrote last, by key; after Seal, with its hooks
	ids    map[chain.TxID]int       // the first place of each id

	on      *ground
	outcome *outcome // after Seal
}

// slot is a transaction's place in the block.
type slot struct {
	id           chain.TxID
	validUntilMs int64 // until when the id is remembered
	refused      bool
	result       *logv1.TxResult // nil: being executed
	changes      []*logv1.Change // held until its turn
}

// Begin stages b and drops what was staged before. If a sealed block is the one before b, Begin
// keeps it, and stages b on its outcome; only one sealed block at a time may wait for its commit.
// It returns an entry for each transaction: nil if it is to be executed, and a result if it is
// refused. Refusals depend on b and the state before it alone, so the same block gets the same
// refusals however often it is delivered, and whether or not the block before it is committed:
//
//	CODE_LIMIT      longer than max_tx_bytes
//	CODE_MALFORMED  chain.DecodeTx cannot read it
//	CODE_EXPIRED    valid_until is before the block time
//	CODE_TOO_EARLY  valid_until is later than the block time plus the window
//	CODE_REPEATED   the id was applied before, or stands earlier in this block
//	CODE_FAILED     a reset is due, so that no block changes anything
//
// The block time here is b's own, or the latest time of a committed block if that is later, because
// ids are forgotten by that time. Errors: ErrChain, errHeight.
func (d *DB) Begin(b chain.Block) (refused []*logv1.TxResult, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if err := d.Err(); err != nil {
		return nil, err
	}
	on := d.ground(b)
	now := on.state
	if err := now.belongs(b, b.ChainID, b.Period, b.Height); err != nil {
		return nil, err
	}
	if !time.Unix(0, b.Time.UnixNano()).Equal(b.Time) {
		return nil, fmt.Errorf("%v: its time %v is out of range, want the years 1678 to 2262", b, b.Time)
	}
	if len(b.Txs) > math.MaxUint32 {
		return nil, fmt.Errorf("%v: more transactions than versions", b)
	}

	s := &staging{
		block: b, slots: make([]slot, len(b.Txs)), on: on,
		newest: make(map[string]*logv1.Change), first: now.begins(b),
	}
	for _, c := range s.first {
		s.newest[string(c.Key)] = c
	}
	refused = make([]*logv1.TxResult, len(b.Txs))
	refuse := func(i int, code logv1.Code, why string) {
		slot := &s.slots[i]
		slot.refused = true
		slot.result = &logv1.TxResult{Id: slot.id[:], Version: s.version(i).Proto(), Code: code, Log: clipLog(why)}
		refused[i] = slot.result
	}
	gate := newGate(now, b.Time)

	for i, raw := range b.Txs {
		s.slots[i].id = chain.HashTx(raw)
		if code, why := gate.admit(raw, &s.slots[i]); code != logv1.Code_CODE_OK {
			refuse(i, code, why)
		} else if now.held() {
			refuse(i, logv1.Code_CODE_FAILED, heldText)
		}
	}

	if err := d.refuseRepeated(s, gate, refuse); err != nil {
		return nil, err
	}

	s.advance()
	d.staged = s

	return refused, nil
}

// refuseRepeated refuses transactions that were applied before, and all but the first one of the
// same id in the block.
func (d *DB) refuseRepeated(s *staging, g gate, refuse func(i int, code logv1.Code, why string)) error {
	first := make(map[chain.TxID]int, len(s.slots))
	again := make(map[chain.TxID]string)
	repeats := func(id chain.TxID, r *logv1.TxResult) {
		// An id whose time has passed counts as forgotten: committing this block removes it.
		if r.ValidUntilMs >= g.expired {
			again[id] = fmt.Sprintf("applied before, at %v", chain.VersionFromProto(r.Version))
		}
	}
	keys, at := make([][]byte, 0, len(s.slots)), make([]int, 0, len(s.slots))

	for i := range s.slots {
		slot := &s.slots[i]
		if slot.refused {
			continue
		}

		if f, twice := first[slot.id]; twice {
			refuse(i, logv1.Code_CODE_REPEATED, fmt.Sprintf("its id stands at place %d of this block already", f))
			continue
		}

		first[slot.id] = i
		if r := s.on.result(slot.id); r != nil {
			repeats(slot.id, r)
			continue
		}
		if !d.mayHave(slot.id) {
			continue
		}

		keys, at = append(keys, appliedKey(slot.id[:])), append(at, i)
	}

	s.ids = first
	err := d.lookup(keys, func(k int, value []byte) error {
		slot := &s.slots[at[k]]
		r, err := decodeResult(slot.id, value)
		if err == nil {
			repeats(slot.id, r)
		}
		return err
	})

	if err != nil || len(again) == 0 {
		return err
	}

	for i := range s.slots {
		if why, repeated := again[s.slots[i].id]; repeated {
			refuse(i, logv1.Code_CODE_REPEATED, why)
		}
	}

	return nil
}

// gate decides which transactions of a block are refused, as far as it can without looking at the
// transactions that were applied before.
type gate struct {
	maxBytes          uint64
	expired, tooEarly int64 // valid_until in ms is expired below the one, too early above the other
}

func newGate(now *published, block time.Time) gate {
	clock := now.clock(block)
	end := clock + now.chain.Params.WindowNs
	if end < clock {
		end = math.MaxInt64
	}
	return gate{now.chain.Params.MaxTxBytes, ceilMs(clock), floorMs(end)}
}

func (g gate) admit(raw []byte, s *slot) (code logv1.Code, why string) {
	if uint64(len(raw)) > g.maxBytes {
		return logv1.Code_CODE_LIMIT, fmt.Sprintf("%d bytes, want at most %d", len(raw), g.maxBytes)
	}

	tx, err := chain.DecodeTx(raw)
	switch {
	case err != nil:
		return logv1.Code_CODE_MALFORMED, err.Error()
	case tx.Plain() && len(tx.Body) == len(raw):
		s.validUntilMs = g.tooEarly // remembered for one window
	case tx.Plain():
		return logv1.Code_CODE_MALFORMED, "an envelope around a plain transaction" // would be a second form of it
	default:
		s.validUntilMs = tx.ValidUntil.UnixMilli()
	}

	switch until := s.validUntilMs; {
	case until < g.expired:
		return logv1.Code_CODE_EXPIRED, fmt.Sprintf("valid until %v, the block's time is past it", timeMs(until))
	case until > g.tooEarly:
		return logv1.Code_CODE_TOO_EARLY, fmt.Sprintf("valid until %v, the window ends at %v", timeMs(until),
			timeMs(g.tooEarly))
	}

	return logv1.Code_CODE_OK, ""
}

func timeMs(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00") }

func (s *staging) version(i int) chain.Version {
	return chain.Version{Period: s.block.Period, Height: s.block.Height, Index: uint32(i)}
}

// at returns the staged block and the slot of a version; the hooks have none. The error is
// errNotStaged for a version that is not being executed.
func (d *DB) at(v chain.Version) (*staging, *slot, error) {
	if err := d.Err(); err != nil {
		return nil, nil, err
	}

	s := d.staged
	switch {
	case s == nil:
		return nil, nil, fmt.Errorf("version %v: %w: no block is being executed", v, errNotStaged)
	case v.Period != s.block.Period || v.Height != s.block.Height || int64(v.Index) > int64(len(s.slots)):
		return nil, nil, fmt.Errorf("version %v: %w: %v is being executed", v, errNotStaged, s.block)
	case v == s.block.HookVersion() && s.hooksRan:
		return nil, nil, fmt.Errorf("version %v: %w: the hooks have finished", v, errNotStaged)
	case v == s.block.HookVersion():
		return s, nil, nil
	case s.slots[v.Index].refused:
		return nil, nil, fmt.Errorf("version %v: %w: the transaction there was refused", v, errNotStaged)
	case s.slots[v.Index].result != nil:
		return nil, nil, fmt.Errorf("version %v: %w: it has finished", v, errNotStaged)
	}

	return s, &s.slots[v.Index], nil
}

// Read returns the value of key as of just before v: the last write of an earlier version of the
// staged block, or else the value before the block. The error is errNotReady while earlier versions
// have not finished (see nextTurn), and errNotStaged for a version that is not being executed. The
// caller must not modify the value.
func (d *DB) Read(v chain.Version, key []byte) (value []byte, found bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	s, _, err := d.at(v)
	if err != nil {
		return nil, false, err
	}
	if int(v.Index) > s.next {
		return nil, false, fmt.Errorf("version %v: %w: %v has not", v, errNotReady, s.version(s.next))
	}
	if c, ok := s.newest[string(key)]; ok {
		return c.Value, !c.Delete, nil
	}

	old, err := d.before(s.on, key)
	return old.value, old.found, err
}

// before returns the value of key before a block.
func (d *DB) before(on *ground, key []byte) (latest, error) {
	if l, ok := on.written(key); ok {
		return l, nil
	}
	return d.committed(on.read, key)
}

// committed returns the latest committed value of key. It keeps the value in cache.
func (d *DB) committed(cache map[string]latest, key []byte) (latest, error) {
	if l, ok := cache[string(key)]; ok {
		return l, nil
	}

	var l latest
	b, found, err := d.get(latestKey(key))
	if err != nil {
		return latest{}, err
	}

	if found {
		if l, err = decodeLatest(key, b); err != nil {
			return latest{}, d.fail("reading", err)
		}
	}

	cache[string(key)] = l

	return l, nil
}

// Finish takes the writes of the transaction at v, in order, and its result. They are held until
// all earlier versions have finished, and take effect then. If the block has no room left for the
// transaction at that time (chain.MaxOutcomeBytes), its result is CODE_LIMIT. The DB sets the id,
// the version and valid_until of the stored result, and cuts its text at chain.MaxResultLogBytes.
// The error is errNotStaged for a version that is not being executed, or that has finished before.
// The caller must not modify the messages afterwards.
func (d *DB) Finish(v chain.Version, changes []*logv1.Change, result *logv1.TxResult) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	s, slot, err := d.at(v)
	if err == nil && slot == nil {
		err = fmt.Errorf("version %v: %w: %v is being executed, and no transaction stands there", v, errNotStaged,
			s.block)
	}
	if err != nil {
		return err
	}
	if err := checkFinish(v, slot.id, changes, result); err != nil {
		return fmt.Errorf("version %v: %w", v, err)
	}

	r := proto.CloneOf(result)
	r.Id, r.Version, r.ValidUntilMs, r.Log = slot.id[:], v.Proto(), slot.validUntilMs, clipLog(r.Log)
	slot.result, slot.changes = r, changes
	s.advance()

	return nil
}

func checkFinish(v chain.Version, id chain.TxID, changes []*logv1.Change, r *logv1.TxResult) error {
	switch {
	case r == nil:
		return errors.New("finished without a result")
	case len(r.Id) != 0 && string(r.Id) != string(id[:]):
		return fmt.Errorf("the result is of transaction %x, want %v", clip(r.Id), id)
	case r.Code != logv1.Code_CODE_OK && len(r.Events) > 0:
		return fmt.Errorf("%d events of a transaction that ended with %v, want none", len(r.Events), r.Code)
	case r.Code != logv1.Code_CODE_OK && len(changes) > 0:
		return fmt.Errorf("%d changes of a transaction that ended with %v, want none", len(changes), r.Code)
	}

	return checkChanges(v, changes)
}

func checkChanges(v chain.Version, changes []*logv1.Change) error {
	for i, c := range changes {
		switch {
		case c == nil || chain.VersionFromProto(c.Version) != v:
			return fmt.Errorf("change %d is of version %v", i, chain.VersionFromProto(c.GetVersion()))
		case len(c.Key) == 0 || len(c.Key) > chain.MaxKeyBytes:
			return fmt.Errorf("change %d has a key of %d bytes, want 1 to %d", i, len(c.Key), chain.MaxKeyBytes)
		case len(c.Value) > chain.MaxValueBytes:
			return fmt.Errorf("change %d has a value of %d bytes, want at most %d", i, len(c.Value),
				chain.MaxValueBytes)
		}
	}

	return nil
}

// advance makes each finished slot take effect, in order, up to the first one that has not
// finished.
func (s *staging) advance() {
	for ; s.next < len(s.slots) && s.slots[s.next].result != nil; s.next++ {
		slot := &s.slots[s.next]
		s.account(slot)
		for _, c := range slot.changes {
			s.newest[string(c.Key)] = c
		}
	}
}

// account reserves room for a slot in the block's outcome, or fails its transaction if not enough
// is left. It follows the order of the block, so all nodes fail the same transactions.
func (s *staging) account(slot *slot) {
	n := len(slot.result.Data) + outcomeSize(slot.changes) + chain.EmittedSize(slot.result.Events)

	if left := chain.MaxOutcomeBytes - s.used; n > left {
		slot.result.Code, slot.result.Data, slot.changes = logv1.Code_CODE_LIMIT, nil, nil
		slot.result.Events = nil
		slot.result.Log = fmt.Sprintf("it answers and writes %d bytes, and of the %d of its block there are %d left", n,
			chain.MaxOutcomeBytes, left)
		return
	}

	s.used += n
}

// outcomeSize returns what changes count toward the limits of a block.
func outcomeSize(changes []*logv1.Change) (n int) {
	for _, c := range changes {
		n += len(c.Key) + len(c.Value) + chain.ChangeOverhead
	}
	return n
}

// EndBlock takes the writes of the hooks at the end of the staged block, in order, once. They take
// effect after all transactions. v is the block's HookVersion; the error is errNotStaged for
// another version, after a first call and after Seal. The caller must not modify the messages
// afterwards.
func (d *DB) EndBlock(v chain.Version, changes []*logv1.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	s, slot, err := d.at(v)
	if err == nil && slot != nil {
		err = fmt.Errorf("version %v: %w: a transaction stands there", v, errNotStaged)
	}
	if err != nil {
		return err
	}

	if err := checkChanges(v, changes); err != nil {
		return fmt.Errorf("hooks at %v: %w", v, err)
	}
	if len(changes) > 0 && s.on.state.held() {
		return fmt.Errorf("hooks at %v: they write in %v, which changes nothing until the reset", v, s.block)
	}
	if n := outcomeSize(changes); n > chain.MaxHookBytes {
		return fmt.Errorf("hooks at %v: they write %d bytes, want at most %d", v, n, chain.MaxHookBytes)
	}

	s.hooks, s.hooksRan = changes, true

	return nil
}

// clipLog makes a text fit for a record: not too long, and valid UTF-8 even if a backend put other
// bytes into its error.
func clipLog(text string) string {
	if len(text) > chain.MaxResultLogBytes {
		text = text[:chain.MaxResultLogBytes-len(clipped)] + clipped
	}
	return strings.ToValidUTF8(text, "?")
}

const clipped = "…"

// nextTurn returns the first place in the staged block that has not finished, so that reads at or
// before it can be answered. all is set if every place has finished and Seal may be called. ok is
// false if no block is staged.
func (d *DB) nextTurn() (turn uint32, all, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.staged == nil {
		return 0, false, false
	}
	return uint32(d.staged.next), d.staged.next == len(d.staged.slots), true
}

// Seal returns the outcome of the staged block, with what its hooks have written by then. It
// returns errNotReady if a version has not finished, and errNotStaged if no block is staged.
// Sealing again returns the same outcome.
func (d *DB) Seal() (chain.Staged, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if err := d.Err(); err != nil {
		return chain.Staged{}, err
	}

	s := d.staged
	switch {
	case s == nil:
		return chain.Staged{}, fmt.Errorf("seal: %w: no block is being executed", errNotStaged)
	case s.next < len(s.slots):
		return chain.Staged{}, fmt.Errorf("seal %v: %w: %v has not", s.block, errNotReady, s.version(s.next))
	}

	if s.outcome == nil {
		s.hooksRan = true
		n := len(s.first) + len(s.hooks)
		for i := range s.slots {
			n += len(s.slots[i].changes)
		}

		results, changes := make([]*logv1.TxResult, len(s.slots)), make([]*logv1.Change, 0, n)
		changes = append(changes, s.first...)

		for i := range s.slots {
			results[i] = s.slots[i].result
			changes = append(changes, s.slots[i].changes...)
		}
		changes = append(changes, s.hooks...)

		o, err := d.fold(header{s.block.Height, s.block.Hash, s.block.Time}, results, changes, s.on)
		if err != nil {
			return chain.Staged{}, err
		}

		s.outcome = o
		for _, c := range s.hooks {
			s.newest[string(c.Key)] = c // for the block after this one
		}
	}

	return chain.Staged{Block: s.block, Results: s.outcome.results, Changes: s.outcome.changes,
		AppHash: s.outcome.next.AppHash}, nil
}
