package eventlog_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	check "github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/require"
)

// TestRealDiskFull fills a file system. What was acknowledged stays, the error gives the cause, and
// with room the log goes on.
func TestRealDiskFull(t *testing.T) {
	for _, size := range []int64{5 << 20, 9 << 20, 9<<20 + 64<<10, 12 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			mount := require.Tmpfs(t, size)
			dir := filepath.Join(mount, "log")
			ctx := t.Context()
			o := eventlog.Options{SegmentSize: 2 << 20}
			l, err := eventlog.Open(dir, o)
			check.NoError(t, err)
			acked := uint64(0)

			for err == nil {
				_, err = l.AppendWait(ctx, recordsAt(acked+1, 50)...)
				if err == nil {
					acked += 50
				}
			}

			check.ErrorIs(t, err, eventlog.ErrFailed)
			check.ErrorIs(t, err, syscall.ENOSPC)
			_, err = l.AppendWait(ctx, recordAt(acked+1))
			check.ErrorIs(t, err, syscall.ENOSPC)
			check.ErrorIs(t, l.Close(), syscall.ENOSPC)
			check.Greater(t, acked, uint64(1000))

			l, err = eventlog.OpenReadOnly(dir, o)
			check.NoError(t, err)
			check.GreaterOrEqual(t, l.Durable(), acked)
			check.NoError(t, readAll(l))
			check.NoError(t, l.Close())

			out, err := exec.Command("mount", "-o", fmt.Sprintf("remount,size=%d", size+8<<20), mount).CombinedOutput()
			check.NoError(t, err, "%s", out)
			l, err = eventlog.Open(dir, o)
			check.NoError(t, err)
			check.GreaterOrEqual(t, l.Durable(), acked)
			next := l.Durable() + 1
			_, err = l.AppendWait(ctx, recordAt(next))
			check.NoError(t, err)
			check.NoError(t, readAll(l))
			check.NoError(t, l.Close())
			_, err = eventlog.Verify(dir, eventlog.Options{})
			check.NoError(t, err)
		})
	}
}

// TestSyscallsFail makes the kernel refuse the n-th call of each kind to a real process. Every
// failure is sticky and named, and what was acknowledged is there.
func TestSyscallsFail(t *testing.T) {
	strace := require.Tool(t, "strace")
	failed := 0

	for _, fault := range []string{"fdatasync:error=EIO", "fsync:error=EIO", "pwrite64:error=EIO",
		"pwrite64:error=ENOSPC", "rename,renameat,renameat2:error=EIO"} {
		calls, _, _ := strings.Cut(fault, ":")
		for _, when := range soakWhen() {
			dir := filepath.Join(t.TempDir(), "log")
			cmd := exec.Command(strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace="+calls, "-e",
				"inject="+fault+":when="+when, os.Args[0])
			cmd.Env = append(os.Environ(), faultyEnv+"="+dir)
			out, err := cmd.CombinedOutput()
			check.NoError(t, err, "%s %s: %s", fault, when, out)
			acked, said := uint64(0), ""

			for line := range strings.Lines(string(out)) {
				if n := uint64(0); said == "" {
					if _, err := fmt.Sscan(line, &n); err == nil {
						acked = n
						continue
					}
				}
				said += line
			}

			if strings.HasPrefix(said, "failed:") {
				failed++
				check.Regexp(t, "input/output error|no space left", said)
			}

			l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 16 << 10})
			check.NoError(t, err, "%s %s: %s", fault, when, said)
			check.GreaterOrEqual(t, l.Durable(), acked, "%s %s: %s", fault, when, said)
			check.NoError(t, readAll(l))
			check.NoError(t, l.Close())
		}
	}

	check.Greater(t, failed, 5)
	t.Logf("%d failures", failed)
}

// soakWhen returns which calls fail, in strace's notation: the n-th, or all from the n-th on.
func soakWhen() []string {
	list := []string{"9", "60+"}
	if soak(0, 1) == 1 {
		for n := 1; n <= 120; n += 3 {
			list = append(list, fmt.Sprint(n), fmt.Sprint(n, "+"))
		}
	}
	return list
}

// TestReadOnlyFileSystem: a log on a read-only file system can be read and verified.
func TestReadOnlyFileSystem(t *testing.T) {
	mount := require.Tmpfs(t, 8<<20)
	dir := filepath.Join(mount, "log")
	l, err := eventlog.Open(dir, eventlog.Options{})
	check.NoError(t, err)
	_, err = l.AppendWait(t.Context(), recordsAt(1, 50)...)
	check.NoError(t, err)
	check.NoError(t, l.Close())
	out, err := exec.Command("mount", "-o", "remount,ro", mount).CombinedOutput()
	check.NoError(t, err, "%s", out)
	_, err = eventlog.Verify(dir, eventlog.Options{})
	check.NoError(t, err)
	l, err = eventlog.OpenReadOnly(dir, eventlog.Options{})
	check.NoError(t, err)
	check.NoError(t, readAll(l))
	_, err = eventlog.OpenReadOnly(dir, eventlog.Options{})
	check.ErrorIs(t, err, eventlog.ErrLocked)
	check.NoError(t, l.Close())
	got, err := eventlog.Salvage(t.Context(), dir, filepath.Join(t.TempDir(), "to"), eventlog.Options{})
	check.NoError(t, err)
	check.True(t, got.Whole())
	_, err = eventlog.Open(dir, eventlog.Options{})
	check.ErrorIs(t, err, syscall.EROFS)
}
