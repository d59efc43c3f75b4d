package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/coppice-go/coppice/eventlog"
)

const faultyEnv = "EVENTLOG_TEST_FAULTY"

// faultyMain appends while the kernel refuses some calls, and prints each index that is
// acknowledged. It returns 0 if the log kept to its contract.
func faultyMain(dir string) int {
	runtime.LockOSThread() // the lone writer leads, so this thread makes the calls that are counted
	ctx := context.Background()

	l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 16 << 10})
	if err != nil {
		fmt.Println("open:", err)
		return 0
	}

	for next := l.Durable() + 1; next < 400; next++ {
		if _, err = l.AppendWait(ctx, recordAt(next)); err != nil {
			break
		}

		fmt.Println(next)

		if next > 100 {
			if _, err = l.Truncate(next - 100); err != nil {
				break
			}
		}
	}

	if err == nil {
		fmt.Println("closed:", l.Close())
		return 0
	}

	if l.Stat().Err == nil {
		fmt.Println("not failed:", err) // a file that could not be removed
		return 0
	}

	if !errors.Is(err, eventlog.ErrFailed) {
		fmt.Println("want ErrFailed:", err)
		return 1
	}

	for range 3 {
		if _, err := l.AppendWait(ctx, recordAt(1)); !errors.Is(err, eventlog.ErrFailed) {
			fmt.Println("not sticky:", err)
			return 1
		}
	}

	if err := l.Close(); !errors.Is(err, eventlog.ErrFailed) {
		fmt.Println("Close forgot:", err)
		return 1
	}

	fmt.Println("failed:", err)

	return 0
}
