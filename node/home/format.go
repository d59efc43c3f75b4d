package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coppice-go/coppice/node/exit"
)

// CurrentVersion is the layout of a home that this program reads and writes. Formats below are
// upgraded (see Upgrade), those above are refused. A segment of the log, the state's database and
// CometBFT's home have versions of their own, in themselves, and are refused in the same way by
// those who read them.
const CurrentVersion Version = 1

// Version is a version of the layout of a home, as the file FORMAT has it: a line "coppice home 1",
// and for versions above 1 a line "needs coppice v1.2.3", the first program that reads it.
type Version int

// Format is the file FORMAT of this program's homes.
var Format = CurrentVersion.Text("")

// Text returns the content of the file FORMAT. needs is the first program that reads v, or empty.
func (v Version) Text(needs string) string {
	text := fmt.Sprintf("coppice home %d\n", v)
	if needs != "" {
		text += "needs coppice " + needs + "\n"
	}
	return text
}

// CheckFormat refuses what is no home of this version.
func CheckFormat(home string) error {
	v, err := ReadFormat(home, CurrentVersion)
	if err == nil && v < CurrentVersion {
		return fmt.Errorf("%w: %s has format %d, this program wants %d: make a backup of it, then run "+
			"'coppice upgrade'", exit.ErrConfig, home, v, CurrentVersion)
	}
	return err
}

// ReadFormat is the format of a home, at most newest.
func ReadFormat(home string, newest Version) (Version, error) {
	path := filepath.Join(home, FormatFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, exit.NoHome(home, FormatFile)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	first, rest, _ := strings.Cut(string(data), "\n")
	var v Version
	if n, err := fmt.Sscanf(first, "coppice home %d", &v); n != 1 || err != nil || v < 1 || first+"\n" != v.Text("") {
		return 0, fmt.Errorf("%w: %s holds %.40q, want a line such as \"coppice home %d\": this is no home of "+
			"coppice, or its file is damaged", exit.ErrConfig, path, data, CurrentVersion)
	}

	if v > newest {
		who := "a newer coppice than this"
		if need, ok := strings.CutPrefix(strings.TrimSpace(rest), "needs "); ok {
			who = fmt.Sprintf("%.60s or newer", need)
		}
		return 0, fmt.Errorf("%w: %s has format %d, this program reads up to %d: it wants %s", exit.ErrConfig, home, v,
			newest, who)
	}

	return v, nil
}
