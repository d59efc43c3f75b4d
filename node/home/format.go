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

// Version is a version of the layout of a home. The file FORMAT records it in a line "coppice home
// 1". For versions above 1, a second line "needs coppice v1.2.3" names the first program that reads
// the layout.
type Version int

// CurrentVersion is the layout that this program reads and writes. Older layouts can be upgraded
// (see offline.Upgrade), and newer ones are refused. Segments of the log, the state's database and
// CometBFT's home contain versions of their own, which the code that reads them checks in the same
// way.
const CurrentVersion Version = 1

// Format is the content of the file FORMAT in this program's homes.
var Format = CurrentVersion.Text("")

// Text returns the content of the file FORMAT. needs is the first version of the program that reads
// v, or empty.
func (v Version) Text(needs string) string {
	text := fmt.Sprintf("coppice home %d\n", v)
	if needs != "" {
		text += "needs coppice " + needs + "\n"
	}
	return text
}

// CheckFormat returns an error if a directory is not a home of the current version.
func CheckFormat(home string) error {
	v, err := ReadFormat(home, CurrentVersion)
	if err == nil && v < CurrentVersion {
		return fmt.Errorf("%w: %s has format %d, this program needs %d: back up the home, then run "+
			"'coppice upgrade'", exit.ErrConfig, home, v, CurrentVersion)
	}
	return err
}

// ReadFormat returns the format of a home. It returns an error for a format above newest.
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
		return 0, fmt.Errorf("%w: %s contains %.40q, want a line such as \"coppice home %d\": this is no home of "+
			"coppice, or its file is damaged", exit.ErrConfig, path, data, CurrentVersion)
	}

	if v > newest {
		needed := "a newer coppice than this"
		if need, ok := strings.CutPrefix(strings.TrimSpace(rest), "needs "); ok {
			needed = fmt.Sprintf("%.60s or newer", need)
		}
		return 0, fmt.Errorf("%w: %s has format %d, this program reads up to %d: it needs %s", exit.ErrConfig, home, v,
			newest, needed)
	}

	return v, nil
}
