package process

import "os"

// Self returns what to give Spec.Path and Spec.Argv0 so that the process is this program again:
// exactly the one that runs, even if its file has been removed or replaced since. Errors are those
// of finding the file.
func Self() (path, argv0 string, err error) {
	// of whoever opens it, and the child has the image of its parent until it executes this
	const image = "/proc/self/exe"
	argv0, err = os.Executable()
	if _, missing := os.Stat(image); missing != nil { // no /proc
		return argv0, argv0, err
	}
	if len(os.Args) > 0 { // the name by which it was started: that of the file may have a new owner
		argv0 = os.Args[0]
	}

	return image, argv0, nil
}
