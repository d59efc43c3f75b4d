package command

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// canMount reports whether this process may mount file systems. If it may not,
// TestScriptsWithMounts runs the scripts that mount.
func canMount() bool {
	dir, err := os.MkdirTemp("", "mount-")
	if err != nil {
		return false
	}
	defer os.Remove(dir)

	if unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m") != nil {
		return false
	}

	return unix.Unmount(dir, 0) == nil
}

// tmpfs SIZE DIR mounts a file system of that size until the script ends. If DIR exists, it changes
// the size of the file system that is mounted there.
func tmpfs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tmpfs size dir")
	}

	dir, size := ts.MkAbs(args[1]), "size="+args[0]
	if _, err := os.Stat(dir); err == nil {
		ts.Check(unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, size))
		return
	}

	ts.Check(os.Mkdir(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, size))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, unix.MNT_DETACH)) })
}

// readonly DIR makes a directory and everything below it read-only until the script ends.
func readonly(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: readonly dir")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, unix.MNT_DETACH)) })
	ts.Check(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

// TestScriptsWithMounts runs the scripts that mount in a namespace of their own, if this process
// may not mount.
func TestScriptsWithMounts(t *testing.T) {
	if canMount() {
		return // TestScripts ran them
	}
	bin, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(bin, "-test.run=^TestScripts$/^(fulldisk|readonly)$", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("on this system only root may mount a file system, and this is not root: %v", err)
	}
	if err != nil || bytes.Contains(out, []byte("SKIP: TestScripts/")) {
		t.Fatalf("in a namespace: %v\n%s", err, out)
	}
}

// mountTmpfs mounts a file system of that size at dir until the test ends.
func mountTmpfs(t *testing.T, dir, size string) {
	t.Helper()
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}

// fill writes a file "fill" below dir that leaves so many bytes of its file system free.
func fill(t *testing.T, dir string, leave int) {
	t.Helper()
	var s unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &s))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fill"),
		make([]byte, int(s.Bavail)*int(s.Bsize)-leave), 0o600))
}
