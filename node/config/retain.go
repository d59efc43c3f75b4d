package config

import (
	"fmt"
	"strconv"
)

// What of the event log is kept: log.retain.
const (
	RetainAll      = "all"      // the whole log
	RetainSnapshot = "snapshot" // what the oldest snapshot needs
)

// retainBytes is log.retain as a number of bytes; ok is false where it is none.
func (c LogConfig) RetainBytes() (n int64, ok bool) {
	n, err := strconv.ParseInt(c.Retain, 10, 64)
	return n, err == nil
}

func checkRetain(c Config) error {
	if c.Log.Retain == RetainAll {
		return nil
	}

	if n, ok := c.Log.RetainBytes(); c.Log.Retain != RetainSnapshot && (!ok || n < 1<<20 || n > 1<<50) {
		return fmt.Errorf("%q: want %s, %s, or a number of bytes from %d to %d", c.Log.Retain, RetainAll,
			RetainSnapshot, 1<<20, int64(1)<<50)
	}

	if c.Snapshots.EveryBytes == 0 {
		return fmt.Errorf("%q: the log is only truncated behind snapshots, and none are taken: want %s, or "+
			"snapshots.every_bytes above 0", c.Log.Retain, RetainAll)
	}

	return nil
}
