package process

import "os"

// Self returns values for Spec.Path and Spec.Argv0 with which the process is this program again:
// exactly the one that runs, even if its file has been removed or replaced since. It returns an
// error if the file cannot be found.
func Self() (path, argv0 string, err error) {
	// The link leads to the image of the process that opens it. The child has the image of its
	// parent until it executes this path.
	const image = "/proc/self/exe"
	argv0, err = os.Executable()
	if _, missing := os.Stat(image); missing != nil { // no /proc
		return argv0, argv0, err
	}
	if len(os.Args) > 0 { // the name it was started by: the name of the file may belong to another file now
		argv0 = os.Args[0]
	}

	return image, argv0, nil
}
