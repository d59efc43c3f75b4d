package backup

import "context"

// Options set what a backup contains beside the data of the home, and which function is told of its
// progress.
type Options struct {
	Program string // the program that makes the backup, and its version

	// Token is the admin token; nil leaves it out. Anybody who reads a backup with the token can
	// control the node.
	Token []byte

	// Progress, if set, is called with the step that the backup is at, and how far it has come.
	Progress func(step string, done, total uint64)

	// Prove, if set, is called with the directory of the finished backup before the backup gets its
	// name. An error discards the backup. Nil stands for Verify. offline.Rehearse proves that the
	// backup can be restored.
	Prove func(ctx context.Context, dir string, progress func(step string, done, total uint64)) error

	// Fatal ends the process when the home's state can neither be read nor closed, for example
	// because its disk is full. It must not return; nil panics.
	Fatal func(error)
}

// prove checks the finished backup in dir.
func (o Options) prove(ctx context.Context, dir string) error {
	if o.Prove != nil {
		return o.Prove(ctx, dir, o.ProgressFunc())
	}
	_, err := Verify(ctx, dir, o.Progress)
	return err
}

// ProgressFunc returns Progress, or a function that does nothing if Progress is nil.
func (o Options) ProgressFunc() func(step string, done, total uint64) {
	if o.Progress == nil {
		return func(string, uint64, uint64) {}
	}
	return o.Progress
}
