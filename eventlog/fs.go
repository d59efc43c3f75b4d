package eventlog

import "io"

// FS is all that the log needs of a file system. The zero Options use the operating system's; tests
// put disks here that crash and fail. Names are paths as package filepath makes them.
//
// A name that was created, renamed or removed is durable once SyncDir of its directory has
// returned, and bytes once Sync of their file has. Implementations must be safe for concurrent use.
type FS interface {
	// MkdirAll makes dir and its missing ancestors. It is no error if dir is there.
	MkdirAll(dir string) error
	// List returns the base names in dir, in any order. A missing dir is an error that is
	// fs.ErrNotExist.
	List(dir string) ([]string, error)
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// Create makes an empty file for reading and writing; a file of that name is replaced.
	Create(name string) (File, error)
	// Open opens a file that exists, for reading and, if write is set, writing.
	Open(name string, write bool) (File, error)
	// Rename gives a file another name, replacing a file of that name.
	Rename(oldname, newname string) error
	// Remove removes a file. Open handles stay usable.
	Remove(name string) error
	// Lock takes the exclusive lock called name, creating the file if needed, until Close or the
	// end of the process. It returns an error that is ErrLocked at once if somebody else holds it.
	Lock(name string) (io.Closer, error)
}

// File is one open file. ReadAt may run beside WriteAt and Sync; WriteAt and Sync come from one
// goroutine at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the bytes written durable, and the size where reading them needs it: fdatasync.
	Sync() error
	// Size is the present size in bytes.
	Size() (int64, error)
}

// Holder is what a lock may also be. Held returns an error once the name that was locked is no
// longer that of the locked file: the directory was moved away, or the file removed, and what has
// these names now is somebody else's. The log asks before it gives, takes or reuses a name.
type Holder interface {
	Held() error
}

// StartSyncer is what a File may also be. StartSync asks that the bytes begin on their way to the
// disk, and returns soon; it promises nothing. The log asks for it when much is written between two
// syncs. It may run beside any other method, and after Close.
type StartSyncer interface {
	StartSync(off, n int64)
}
