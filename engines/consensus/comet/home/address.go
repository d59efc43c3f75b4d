package home

import (
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// hostPort is the first TCP address of a list as CometBFT writes them.
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

// ownedByUs guards against a directory that somebody else has put in our way.
func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
