package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// ResetKey is the key under which the replicated state holds a Reset that was decided. The block
// that decides on the reset writes it, and the first block of the next epoch deletes it.
const ResetKey = ReservedPrefix + "reset"

// Errors about resets.
var (
	// ErrReset: a record of a reset, or the start of the chain after it, is not the one that was
	// agreed.
	ErrReset = errors.New("not the agreed reset")

	// ErrNoReset: no reset was decided, or it is not yet time to make it.
	ErrNoReset = errors.New("no reset is due")
)

// Reset is the decision to end a chain and to begin the next epoch with the same state. The block
// at Height decided it. From then on the chain is in hold: the blocks after Height change nothing.
type Reset struct {
	Epoch  uint64 `json:"epoch"`  // that the reset ends
	Height uint64 `json:"height"` // of the block that decided it
	TimeNs int64  `json:"time_ns"`
	Offset uint64 `json:"offset"` // the next epoch begins this many heights after Height
}

// Encode returns the value of ResetKey.
func (r Reset) Encode() ([]byte, error) { return json.Marshal(r) }

// DecodeReset decodes the value of ResetKey.
func DecodeReset(b []byte) (*Reset, error) {
	r := new(Reset)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("the reset in the state: %w", err)
	}
	if r.Height == 0 || r.Offset == 0 {
		return nil, fmt.Errorf("the reset in the state is of height %d with offset %d, want both above 0", r.Height,
			r.Offset)
	}
	return r, nil
}

// Time returns the time of the block that decided the reset.
func (r Reset) Time() time.Time { return time.Unix(0, r.TimeNs) }

// InitialHeight returns the height of the first block of the next epoch.
func (r Reset) InitialHeight() uint64 { return r.Height + r.Offset }

// String describes the reset for people.
func (r Reset) String() string {
	return fmt.Sprintf("reset of epoch %d, decided at height %d", r.Epoch, r.Height)
}

// ResetOf returns the reset that is due after the changes of a block, if it was was before them.
func ResetOf(changes []*logv1.Change, was *Reset) (*Reset, error) {
	for i := len(changes) - 1; i >= 0; i-- {
		c := changes[i]
		if string(c.GetKey()) != ResetKey {
			continue
		}
		if c.Delete {
			return nil, nil
		}
		return DecodeReset(c.Value)
	}
	return was, nil
}

// EpochID returns the chain id of an epoch: the name of the chain for epoch 0, and name-epoch for
// the others.
func EpochID(name string, epoch uint64) string {
	if epoch == 0 {
		return name
	}
	return name + "-" + strconv.FormatUint(epoch, 10)
}

// NameOf returns the name of the chain whose epoch has the given chain id.
func NameOf(chainID string, epoch uint64) string {
	if epoch == 0 {
		return chainID
	}
	return strings.TrimSuffix(chainID, EpochID("", epoch))
}

// EpochOf returns the epoch with the given chain id. It reports whether the name has such an epoch.
func EpochOf(chainID, name string) (epoch uint64, ok bool) {
	if chainID == name {
		return 0, true
	}

	digits, ok := strings.CutPrefix(chainID, name+"-")
	if !ok {
		return 0, false
	}
	epoch, err := strconv.ParseUint(digits, 10, 64)
	return epoch, err == nil && epoch > 0 && EpochID(name, epoch) == chainID
}

// Root is what makes up the state at a reset: the hash of its keys and ids, which does not depend
// on the epoch, and the app hash that they have in the next epoch.
type Root struct{ State, AppHash []byte }

// Renewal is what a consensus adds to a reset: what the next epoch begins with, and the proof that
// the old one has ended. A consensus without peers adds nothing.
type Renewal struct {
	Validators  []*logv1.ValidatorUpdate
	AppState    []byte
	Certificate []byte
}

// ChainReset returns the record that ends the chain in state s and names the one that follows. All
// of it derives from the block that decided the reset and from the state after it. root is that of
// the state. The error is ErrNoReset if s has no reset that is due.
func (s State) ChainReset(root Root, with Renewal) (*logv1.ChainReset, error) {
	if !s.InHold() {
		return nil, fmt.Errorf("%w: %s is at height %d of epoch %d", ErrNoReset, s.ChainID, s.Height, s.Period)
	}

	next := s.Period + 1
	return &logv1.ChainReset{
		OldChainId: s.ChainID, OldPeriod: s.Period, LastHeight: s.Height, LastAppHash: s.AppHash,
		NewChainId: EpochID(NameOf(s.ChainID, s.Period), next), NewPeriod: next,
		InitialHeight: s.Reset.InitialHeight(), AppHash: root.AppHash, GenesisTimeNs: s.Reset.TimeNs,
		Reason:      fmt.Sprintf("agreed at height %d", s.Reset.Height),
		ResetHeight: s.Reset.Height, StateRoot: root.State,
		Params: s.Params, Validators: with.Validators, AppStateHash: hashAppState(with.AppState),
		Certificate: with.Certificate,
	}, nil
}

// CheckChainReset returns an ErrReset if a record is not the reset that is due in state s.
func (s State) CheckChainReset(root Root, rec *logv1.ChainReset) error {
	want, err := s.ChainReset(root, Renewal{})
	if err != nil {
		return err
	}

	// What the consensus has added is compared with the start of the next epoch.
	want.Validators, want.AppStateHash, want.Certificate = rec.Validators, rec.AppStateHash, rec.Certificate
	want.Reason = rec.Reason
	if !proto.Equal(want, rec) {
		return fmt.Errorf("%w: the record says {%v}, height %d of %s leads to {%v}", ErrReset, rec, s.Height, s.ChainID,
			want)
	}

	return nil
}

// Succeeds returns an ErrReset, which names the field, if rec does not start the epoch that the
// reset names.
func Succeeds(reset *logv1.ChainReset, rec *logv1.ChainStarted) error {
	bad := func(what string, got, want any) error {
		return fmt.Errorf("%w: %s of the start of epoch %d is %v, the reset at height %d says %v", ErrReset, what,
			reset.NewPeriod, got, reset.ResetHeight, want)
	}

	switch {
	case rec.ChainId != reset.NewChainId:
		return bad("chain_id", strconv.Quote(rec.ChainId), strconv.Quote(reset.NewChainId))
	case rec.Period != reset.NewPeriod:
		return bad("epoch", rec.Period, reset.NewPeriod)
	case rec.InitialHeight != reset.InitialHeight:
		return bad("initial_height", rec.InitialHeight, reset.InitialHeight)
	case rec.GenesisTimeNs != reset.GenesisTimeNs:
		return bad("genesis_time", time.Unix(0, rec.GenesisTimeNs).UTC(), time.Unix(0, reset.GenesisTimeNs).UTC())
	case !bytes.Equal(rec.AppHash, reset.AppHash):
		return bad("app_hash", fmt.Sprintf("%x", rec.AppHash), fmt.Sprintf("%x", reset.AppHash))
	case !proto.Equal(rec.Params, reset.Params):
		return bad("limits", rec.Params, reset.Params)
	case !bytes.Equal(hashAppState(rec.AppState), reset.AppStateHash):
		return bad("hash of app_state", fmt.Sprintf("%x", hashAppState(rec.AppState)),
			fmt.Sprintf("%x", reset.AppStateHash))
	case !sameValidators(rec.Validators, reset.Validators):
		return bad("validators", rec.Validators, reset.Validators)
	}

	return nil
}

// StartedBy returns the record that starts the epoch that a reset names, with the bytes of its
// app_state.
func StartedBy(reset *logv1.ChainReset, appState []byte) *logv1.ChainStarted {
	return &logv1.ChainStarted{
		ChainId: reset.NewChainId, Period: reset.NewPeriod, InitialHeight: reset.InitialHeight,
		GenesisTimeNs: reset.GenesisTimeNs, AppHash: reset.AppHash, Params: reset.Params,
		Validators: reset.Validators, AppState: appState,
	}
}

// sameValidators reports whether two sets have the same members, in any order.
func sameValidators(a, b []*logv1.ValidatorUpdate) bool {
	if len(a) != len(b) {
		return false
	}

	has := make(map[string]*logv1.ValidatorUpdate, len(a))
	for _, v := range a {
		has[string(v.PubKey)] = v
	}
	for _, v := range b {
		if !proto.Equal(has[string(v.PubKey)], v) {
			return false
		}
		delete(has, string(v.PubKey))
	}

	return len(has) == 0
}

// hashAppState returns the hash of an app_state, or nil if there is none. The layout of the JSON
// does not count: a consensus may write it in its own.
func hashAppState(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}

	var text bytes.Buffer
	if json.Compact(&text, b) == nil {
		b = text.Bytes()
	}
	h := sha256.Sum256(b)

	return h[:]
}

// AfterReset returns the state of the epoch that a reset names before it is started.
func AfterReset(reset *logv1.ChainReset) State {
	return State{
		ChainID: reset.NewChainId, Period: reset.NewPeriod, InitialHeight: reset.InitialHeight,
		Time: time.Unix(0, reset.GenesisTimeNs), AppHash: reset.AppHash, Params: reset.Params,
	}
}
