package config

import (
	"fmt"
	"strconv"
)

// Values of log.retain, which says how much of the event log is kept.
const (
	RetainAll      = "all"      // the whole log
	RetainSnapshot = "snapshot" // the records that the oldest snapshot needs
)

// RetainBytes returns log.retain as a number of bytes; ok is false if it is not a number.
func (c LogConfig) RetainBytes() (n int64, ok bool) {
	n, err := strconv.ParseInt(c.Retain, 10, 64)
	return n, err == nil
}

// checkRetain checks log.retain. With any value but "all", the log is truncated. That needs
// snapshots, so such a value is refused if none are taken.
func checkRetain(c Config) error {
	if c.Log.Retain == RetainAll {
		return nil
	}

	if n, ok := c.Log.RetainBytes(); c.Log.Retain != RetainSnapshot && (!ok || n < 1<<20 || n > 1<<50) {
		return fmt.Errorf("%q: want %s, %s, or a number of bytes from %d to %d", c.Log.Retain, RetainAll,
			RetainSnapshot, 1<<20, int64(1)<<50)
	}

	if c.Snapshots.EveryBytes == 0 {
		return fmt.Errorf("%q: the log is truncated only behind snapshots, and none are taken: want %s, or "+
			"snapshots.every_bytes above 0", c.Log.Retain, RetainAll)
	}

	return nil
}
