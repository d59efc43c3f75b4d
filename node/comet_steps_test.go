package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/pebblefs"
	"github.com/coppice-go/coppice/supervisor"
)

// step is a point in the work of the node's process or CometBFT's. A process that gets there tells
// the test, and waits until the test lets it go on. The test may kill either process there.
type step string

// The steps of a block's commit, in their order, and some others.
const (
	finalizeSent      step = "FinalizeBlock sent, not received"
	finalizeReceived  step = "FinalizeBlock received"
	decisionUnwritten step = "OrderDecided not yet written"
	decisionWritten   step = "OrderDecided written, not synced"
	executed          step = "a transaction executed at its place"
	sealed            step = "executed and sealed, not answered"
	finalizeAnswered  step = "FinalizeBlock answered, not delivered"
	finalizeDelivered step = "FinalizeBlock's answer delivered"
	commitSent        step = "Commit sent, not received"
	commitReceived    step = "Commit received"
	commitUnwritten   step = "BlockCommitted not yet written"
	commitWritten     step = "BlockCommitted written, not synced"
	commitDurable     step = "BlockCommitted durable, not in the state"
	committed         step = "in the state, not answered"
	commitAnswered    step = "Commit answered, not delivered"
	commitDelivered   step = "Commit's answer delivered"

	childStarts step = "CometBFT starts"
	infoSent    step = "Info sent"
	failPoint   step = "CometBFT exited at its own crash point" // the height is the point's index
)

// commitSteps are all steps of a commit.
var commitSteps = []step{
	finalizeSent, finalizeReceived, decisionUnwritten, decisionWritten, executed, sealed, finalizeAnswered,
	finalizeDelivered,
	commitSent, commitReceived, commitUnwritten, commitWritten, commitDurable, committed, commitAnswered,
	commitDelivered,
}

// moment is a step that a process has come to.
type moment struct {
	PID    int
	Step   step
	Height int64
}

// reporter is the side of a process that reports steps to the test.
type reporter struct {
	socket string
	all    bool // else only what the figures need
}

// at reports a step to the test, waits for the test's answer, and returns it.
func (r reporter) at(s step, height int64) string {
	if !r.all && s != committed && s != childStarts && s != failPoint {
		return ""
	}
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		return "" // the test is over
	}
	defer c.Close()

	if err := json.NewEncoder(c).Encode(moment{os.Getpid(), s, height}); err != nil {
		return ""
	}
	answer, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return ""
	}

	return string(bytes.TrimSpace(answer))
}

// steppedDriver reports the steps between the application and the transaction core.
type steppedDriver struct {
	consensus.Driver
	steps *commitPath
}

func (d steppedDriver) Start(core consensus.Core) supervisor.StartFunc {
	core.Ordering = steppedOrdering{core.Ordering, d.steps}
	return d.Driver.Start(core)
}

// Keep implements consensus.Copier.
func (d steppedDriver) Keep() (release func()) { return d.Driver.(consensus.Copier).Keep() }

// Copy implements consensus.Copier.
func (d steppedDriver) Copy(ctx context.Context) (consensus.Copy, error) {
	return d.Driver.(consensus.Copier).Copy(ctx)
}

// commitPath is what the node's process knows of the block under way.
type commitPath struct {
	reporter
	now      atomic.Pointer[underWay]
	executed atomic.Int64 // the last height of which a transaction was told
}

// underWay is a block that is being ordered or committed.
type underWay struct {
	height     int64
	hash       []byte
	committing bool
	written    atomic.Bool // BlockCommitted, and not synced
}

type steppedOrdering struct {
	consensus.Ordering
	steps *commitPath
}

func (o steppedOrdering) Order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	h := int64(b.Height)
	o.steps.at(finalizeReceived, h)
	o.steps.now.Store(&underWay{height: h, hash: b.Hash})
	staged, err := o.Ordering.Order(ctx, b)
	if err == nil {
		o.steps.at(sealed, h)
	}
	return staged, err
}

func (o steppedOrdering) Commit(ctx context.Context, height uint64) (chain.State, error) {
	h := int64(height)
	o.steps.at(commitReceived, h)
	if w := o.steps.now.Load(); w != nil && w.height == h {
		o.steps.now.Store(&underWay{height: h, hash: w.hash, committing: true})
	}
	s, err := o.Ordering.Commit(ctx, height)
	if err == nil {
		o.steps.at(committed, h)
	}

	return s, err
}

// steppedBackend reports when the first transaction of a block has executed and its result is not
// known yet.
type steppedBackend struct {
	chain.Backend
	steps *commitPath
}

func (b steppedBackend) Execute(v chain.View, body []byte) ([]byte, error) {
	data, err := b.Backend.Execute(v, body)
	if at, unplaced := v.Version(); unplaced == nil {
		h := int64(at.Height)
		if was := b.steps.executed.Load(); was < h && b.steps.executed.CompareAndSwap(was, h) {
			b.steps.at(executed, h)
		}
	}
	return data, err
}

// steppedFS reports the writes and syncs of the event log that the block under way waits for.
type steppedFS struct {
	eventlog.FS
	steps *commitPath
}

func newSteppedFS(steps *commitPath) eventlog.FS {
	return steppedFS{pebblefs.Adapt(vfs.Default), steps}
}

func (f steppedFS) Create(name string) (eventlog.File, error) { return f.wrap(f.FS.Create(name)) }
func (f steppedFS) Open(name string, write bool) (eventlog.File, error) {
	return f.wrap(f.FS.Open(name, write))
}

func (f steppedFS) wrap(file eventlog.File, err error) (eventlog.File, error) {
	if err != nil {
		return nil, err
	}
	return steppedFile{file, f.steps}, nil
}

type steppedFile struct {
	eventlog.File
	steps *commitPath
}

func (f steppedFile) WriteAt(p []byte, off int64) (int, error) {
	w := f.steps.now.Load()
	if w == nil || !bytes.Contains(p, w.hash) {
		return f.File.WriteAt(p, off)
	}

	before, after := decisionUnwritten, decisionWritten
	if w.committing {
		before, after = commitUnwritten, commitWritten
	}

	f.steps.at(before, w.height)
	n, err := f.File.WriteAt(p, off)
	f.steps.at(after, w.height)
	w.written.Store(w.committing)

	return n, err
}

func (f steppedFile) Sync() error {
	w := f.steps.now.Load()
	err := f.File.Sync()
	if err == nil && w != nil && w.written.CompareAndSwap(true, false) {
		f.steps.at(commitDurable, w.height)
	}
	return err
}
