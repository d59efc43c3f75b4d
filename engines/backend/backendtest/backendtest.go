// Package backendtest runs a transaction backend on a state in memory, for tests of backends.
//
// It follows the contract of chain.Backend: it discards the writes of an Execute that returned an
// error or whose view failed, and Execute sees its own writes. It does not order transactions, and
// nothing in it waits.
package backendtest

import (
	"maps"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// State is a replicated state in memory. The zero value is empty and ready for use. It is not safe
// for concurrent use.
type State struct {
	Keys map[string]string

	// Version and BlockTime are the values that the view returns.
	Version   chain.Version
	BlockTime time.Time

	// FailAt makes the view fail: its call number FailAt, counted from 1, and all later calls
	// return Fail.
	FailAt int
	Fail   error

	// These fields describe the last Execute.
	Calls    int    // number of calls to the view
	Reads    int    // number of those calls that wait for the place in the order
	Steps    uint64 // counted by Step
	Returned error  // the error that the backend returned, even if the view failed

	Events []*logv1.Emitted // emitted; nil if Execute failed
}

// Execute runs the body, and keeps its writes if it succeeds. It returns the backend's result and
// error; the error of a failed view takes precedence.
func (s *State) Execute(b chain.Backend, body []byte) ([]byte, error) {
	s.Calls, s.Steps, s.Reads, s.Events = 0, 0, 0, nil
	v := &view{state: s, keys: maps.Clone(s.Keys)}
	if v.keys == nil {
		v.keys = map[string]string{}
	}

	data, err := b.Execute(v, body)
	s.Returned = err
	if v.failed != nil {
		return nil, v.failed // the error of a poisoned view overrides the backend's
	}
	if err != nil {
		return nil, err
	}

	s.Keys, s.Events = v.keys, v.events

	return data, nil
}

type view struct {
	state  *State
	keys   map[string]string
	events []*logv1.Emitted
	hook   bool
	failed error
}

// call counts a call, and returns Fail from call number FailAt on.
func (v *view) call() error {
	v.state.Calls++
	if v.state.FailAt > 0 && v.state.Calls >= v.state.FailAt {
		v.failed = v.state.Fail
	}
	return v.failed
}

func (v *view) Get(key []byte) ([]byte, bool, error) {
	if err := v.call(); err != nil {
		return nil, false, err
	}

	v.state.Reads++
	value, found := v.keys[string(key)]
	if !found {
		return nil, false, nil
	}

	return []byte(value), true, nil
}

func (v *view) Put(key, value []byte) error {
	if err := v.check(key, value); err != nil {
		return err
	}
	v.keys[string(key)] = string(value)
	return nil
}

func (v *view) Delete(key []byte) error {
	if err := v.check(key, nil); err != nil {
		return err
	}
	delete(v.keys, string(key))
	return nil
}

func (v *view) check(key, value []byte) error {
	if err := v.call(); err != nil {
		return err
	}

	switch {
	case len(key) == 0:
		v.failed = chain.ErrEmptyKey
	case len(key) > chain.MaxKeyBytes:
		v.failed = chain.ErrKeyTooLong
	case len(value) > chain.MaxValueBytes:
		v.failed = chain.ErrValueTooLong
	}

	return v.failed
}

func (v *view) Emit(typ string, attributes ...chain.Attribute) error {
	if err := v.call(); err != nil {
		return err
	}

	e, err := chain.NewEmitted(typ, attributes)
	if v.hook {
		err = chain.ErrBadEvent
	}
	if err != nil {
		v.failed = err
		return err
	}
	v.events = append(v.events, e)

	return nil
}

func (v *view) Version() (chain.Version, error) {
	err := v.call()
	v.state.Reads++
	return v.state.Version, err
}

func (v *view) BlockTime() (time.Time, error) {
	err := v.call()
	v.state.Reads++
	return v.state.BlockTime, err
}

func (v *view) Step(n uint64) error {
	if err := v.call(); err != nil {
		return err
	}
	v.state.Steps += n
	return nil
}
