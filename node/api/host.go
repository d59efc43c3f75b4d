package api

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines/consensus"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

var (
	// ErrNoPath: the tree has no child at that path, or no living child that matches its "*".
	ErrNoPath = errors.New("no such path")

	// ErrHow: the child at this path cannot be killed in this way.
	ErrHow = errors.New("cannot be killed in this way")

	// ErrNotRunning: the child is specified, but is not running at the moment.
	ErrNotRunning = errors.New("is not running")

	// ErrNoPart: the process has no part of a report with that name.
	ErrNoPart = errors.New("unknown part")

	// ErrInspecting: another part of a report is being made.
	ErrInspecting = errors.New("busy")

	// ErrBusy: as many streams are open as the node allows.
	ErrBusy = errors.New("too many streams of events are open")
)

// Host is the part of the process around a node that AdminService needs. It answers at any time,
// whatever the tree is doing (invariant I8 in docs/architecture.md): Tree, Spec, Health and Status
// never wait. All methods are safe for concurrent use.
type Host interface {
	EventSource

	// Tree returns the supervision tree as it is now.
	Tree() *apiv1.TreeResponse

	// Spec returns the tree as it was specified.
	Spec() *apiv1.SpecResponse

	// Kill makes one child fail, and returns once it has failed, without waiting for the restart.
	// Killing the root ends the process, so that call may never return. Errors: ErrNoPath, ErrHow,
	// ErrNotRunning.
	Kill(ctx context.Context, k Kill) (Killed, error)

	// Stop begins an orderly stop of the process, and does not wait for it.
	Stop()

	// Inspections returns the names of the parts of a report about the process.
	Inspections() []string

	// Inspect makes the part with that name, and returns its first bytes and the number of the
	// others. Bytes and time are bounded. Errors: ErrNoPart, ErrInspecting, and those of the part.
	Inspect(ctx context.Context, part string) (data []byte, leftOut uint64, err error)

	// Health returns whether the node is ready, and if it is not, why.
	Health() consensus.Condition

	// Status returns facts about the process.
	Status() HostStatus
}

// Kill describes which child to kill, and how.
type Kill struct {
	Path         string // a last element "*" selects any living child there
	How          apiv1.How
	ReleaseAfter time.Duration // for HOW_HANG: how long the child hangs
}

// Killed describes the child that was killed.
type Killed struct {
	Path        string // the path, with "*" resolved
	Incarnation uint64
	Type        apiv1.ChildType
}

// HostStatus holds facts about the process.
type HostStatus struct {
	Up      bool   // whether the node's tree is up
	Reason  string // why it is not up
	PID     int
	Version string
	Profile string
	Started time.Time
	Home    string
}
