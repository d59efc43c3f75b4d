package consensus

import "context"

// Copier is a Driver whose consensus keeps files of its own in the home, and hands out a copy of
// them while it runs.
type Copier interface {
	Driver

	// Keep keeps the consensus from dropping blocks until release is called. A copy then goes back
	// to the height that was committed last when Keep was called. Further calls of release do
	// nothing.
	Keep() (release func())

	// Copy returns a copy of the files as they are at one moment of the call. Every block that was
	// committed before the call is in it. Copy waits a short while for a consensus that is being
	// started again.
	Copy(ctx context.Context) (Copy, error)
}

// Restorer is a Homed kind whose files a backup has.
type Restorer interface {
	Homed

	// CopyStopped is Copier.Copy for a home in which no node runs.
	CopyStopped(ctx context.Context, h Home) (Copy, error)

	// Restore makes the kind's files in a new home from those of a copy. Its caller verifies the
	// home afterwards.
	Restore(ctx context.Context, h Home, r Restoring) error
}

// Copy is a copy of the files of a kind. It has no private key, and nothing that says how far a key
// has signed.
type Copy interface {
	// Facts returns what the copy is.
	Facts() Facts

	// Send calls send with the content of each file, in pieces and in the order of Facts. last
	// marks the last piece of a file.
	Send(ctx context.Context, send func(name string, piece []byte, last bool) error) error

	// Close releases what Send reads from. It may be called more than once.
	Close() error
}

// Facts are what a backup says about the copied files of a kind of consensus.
type Facts struct {
	Kind   string   `json:"kind"`
	Height uint64   `json:"height"` // of the last block in the copy
	Files  []string `json:"files"`  // plain names
	Bytes  int64    `json:"bytes"`  // of the files, approximately
}

// Restoring says how Restorer.Restore makes a kind's files.
type Restoring struct {
	From    string // the directory with the files of the copy
	Facts   Facts  // of the copy
	Options any    // of the kind; nil stands for its defaults

	Note     func(text string)        // is told what the operator must know; not nil
	Progress func(done, total uint64) // in bytes; not nil
}
