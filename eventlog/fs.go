package eventlog

import "io"

// FS is everything that the log needs of a file system. The zero Options use the operating
// system's; tests use disks that crash and fail. Names are paths as package filepath makes them.
//
// A name that was created, renamed or removed is durable once SyncDir of its directory has
// returned. Bytes are durable once Sync of their file has returned. Implementations must be safe
// for concurrent use.
type FS interface {
	// MkdirAll makes dir and its missing ancestors. It returns no error if dir exists.
	MkdirAll(dir string) error
	// List returns the base names in dir, in any order. If dir is missing, the error wraps
	// fs.ErrNotExist.
	List(dir string) ([]string, error)
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// Create makes an empty file for reading and writing. It replaces a file of that name.
	Create(name string) (File, error)
	// Open opens an existing file for reading and, if write is set, for writing.
	Open(name string, write bool) (File, error)
	// Rename gives a file another name and replaces a file of that name.
	Rename(oldname, newname string) error
	// Remove removes a file. Open handles stay usable.
	Remove(name string) error
	// Lock takes the exclusive lock called name until Close or the end of the process, and creates
	// the file if needed. If somebody else holds the lock, Lock returns at once with an error that
	// wraps ErrLocked.
	Lock(name string) (io.Closer, error)
}

// File is one open file. ReadAt may run beside WriteAt and Sync. WriteAt and Sync are called by one
// goroutine at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the written bytes durable, and the file's size as far as reading them needs it, as
	// fdatasync does.
	Sync() error
	// Size returns the present size in bytes.
	Size() (int64, error)
}

// Holder is an optional interface of a lock. Held returns an error once the locked name no longer
// belongs to the locked file. Then the directory was moved away or the file was removed, and the
// files that have these names now belong to somebody else. The log calls Held before it gives,
// takes or reuses a name.
type Holder interface {
	Held() error
}

// StartSyncer is an optional interface of a File. StartSync asks the system to begin writing these
// bytes to the disk, and returns soon. It promises nothing. The log calls it when much is written
// between two syncs. It may run beside any other method, and after Close.
type StartSyncer interface {
	StartSync(off, n int64)
}
