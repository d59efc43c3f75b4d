package home

import (
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// hostPort returns the first TCP address of a list in CometBFT's form, or "" if there is none.
func hostPort(list string) string {
	for a := range strings.SplitSeq(list, ",") {
		a = strings.TrimSpace(a)
		if rest, ok := strings.CutPrefix(a, "tcp://"); ok {
			return rest
		}
		if a != "" && !strings.Contains(a, "://") {
			return a
		}
	}
	return ""
}

// ownedByUs reports whether a directory belongs to this user, so that no other user has put it in
// our way.
func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
