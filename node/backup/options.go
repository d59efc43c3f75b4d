package backup

// Options say what goes into a backup beside the home's own.
type Options struct {
	Program  string // that makes it, and its version
	Token    []byte // the admin token, if it is to be in it: whoever has the backup then holds power over the node
	Progress func(step string, done, total uint64)

	Fatal func(error) // as SnapshotOptions.Fatal
}

func (o Options) ProgressFunc() func(step string, done, total uint64) {
	if o.Progress == nil {
		return func(string, uint64, uint64) {}
	}
	return o.Progress
}
