package api

import (
	"context"
	"errors"
	"time"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

var (
	// ErrNoPath: nothing in the tree has that path, or nothing living matches its "*".
	ErrNoPath = errors.New("no such path")

	// ErrHow: this path can not be killed in this way.
	ErrHow = errors.New("can not be killed in this way")

	// ErrNotRunning: the child is specified, and does not run at the moment.
	ErrNotRunning = errors.New("is not running")

	// ErrBusy: so many streams are open already that the node opens no other.
	ErrBusy = errors.New("too many streams of events are open")
)

// Host is what AdminService needs of the process around a node. It answers whatever the tree is
// doing (I8): Tree, Spec, Health and Status never wait. All methods are safe for concurrent use.
type Host interface {
	EventSource

	// Tree is the supervision tree as it is now.
	Tree() *apiv1.TreeResponse

	// Spec is the tree as it was specified.
	Spec() *apiv1.SpecResponse

	// Kill strikes one child and returns once the blow has fallen, not when the tree has grown
	// back. Killing the root ends the process, so it may never return. It answers ErrNoPath, ErrHow
	// and ErrNotRunning.
	Kill(ctx context.Context, k Kill) (Killed, error)

	// Health tells whether the node is ready, and why it is not.
	Health() (ready bool, reason string)

	// Status tells about the process.
	Status() HostStatus
}

// Kill says what to strike and how.
type Kill struct {
	Path         string // a last element "*" is any living child there
	How          apiv1.How
	ReleaseAfter time.Duration // of HOW_HANG: how long the child ignores everything
}

// Killed says what was struck.
type Killed struct {
	Path        string // "*" resolved
	Incarnation uint64
	Type        apiv1.ChildType
}

// HostStatus is about the process.
type HostStatus struct {
	Up      bool   // the node's tree is up
	Reason  string // why it is not
	PID     int
	Version string
	Profile string
	Started time.Time
	Home    string
}
