package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/exit"
)

// homeVersion is the layout of a home that this program reads and writes. Formats below are
// upgraded (see Upgrade), those above are refused. A segment of the log, the state's database and
// CometBFT's home have versions of their own, in themselves, and are refused in the same way by
// those who read them.
const homeVersion format = 1

// format is a version of the layout of a home, as the file FORMAT has it: a line "coppice home 1",
// and for versions above 1 a line "needs coppice v1.2.3", the first program that reads it.
type format int

// homeFormat is the file FORMAT of this program's homes.
var homeFormat = homeVersion.text("")

func (v format) text(needs string) string {
	text := fmt.Sprintf("coppice home %d\n", v)
	if needs != "" {
		text += "needs coppice " + needs + "\n"
	}
	return text
}

// Migration makes a home of one format from one of the format before. Upgrade runs it in a home
// that nobody uses, and writes the new format only after it returned; a process that ends in the
// middle leaves the old format, and the migration runs again. So it must bear to begin where
// another run of it ended: write beside and rename, and take what is done already for done. What it
// wrote must be on the disk when it returns.
type Migration struct {
	To    int
	Does  string // one line, for people
	Needs string // the first version of the program that reads To
	Run   func(home string) error
}

// migrations are all there are, To being 2, 3, 4 ... in order. Version 1 is the first format, so
// that there is none to it.
var migrations []Migration

// Upgraded says what Upgrade did, or would do.
type Upgraded struct {
	From, To int
	Steps    []string
}

// Upgrade brings a stopped home to the format of this program, one format after the other. With
// check it changes nothing and answers what it would do. It can be killed at any instant and run
// again. Errors are ErrConfig (no home, a newer one) and ErrHomeInUse, or why a step failed.
func Upgrade(home string, check bool) (Upgraded, error) { return upgrade(home, check, migrations) }

func upgrade(home string, check bool, known []Migration) (u Upgraded, err error) {
	at, err := readFormat(home, format(1+len(known)))
	if err != nil {
		return u, err
	}

	if !check {
		lock, err := lockHome(home)
		if err != nil {
			return u, err
		}
		defer lock.Close()
		if at, err = readFormat(home, format(1+len(known))); err != nil { // another upgrade may have been before
			return u, err
		}
	}

	u = Upgraded{From: int(at), To: 1 + len(known)}

	for _, m := range known[at-1:] {
		u.Steps = append(u.Steps, fmt.Sprintf("format %d to %d: %s", m.To-1, m.To, m.Does))
		if check {
			continue
		}

		if err := m.Run(home); err != nil {
			return u, fmt.Errorf("upgrade of %s to format %d: %w; it has format %d still, and the upgrade can "+
				"be run again", home, m.To, err, m.To-1)
		}

		if err := durable.OS.Replace(filepath.Join(home, formatFile), []byte(format(m.To).text(m.Needs)), 0o644); err != nil {
			return u, err
		}
	}

	return u, nil
}

// checkFormat refuses what is no home of this version.
func checkFormat(home string) error {
	v, err := readFormat(home, homeVersion)
	if err == nil && v < homeVersion {
		return fmt.Errorf("%w: %s has format %d, this program wants %d: make a backup of it, then run "+
			"'coppice upgrade'", exit.ErrConfig, home, v, homeVersion)
	}
	return err
}

// readFormat is the format of a home, at most newest.
func readFormat(home string, newest format) (format, error) {
	path := filepath.Join(home, formatFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, exit.NoHome(home, formatFile)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	first, rest, _ := strings.Cut(string(data), "\n")
	var v format
	if n, err := fmt.Sscanf(first, "coppice home %d", &v); n != 1 || err != nil || v < 1 || first+"\n" != v.text("") {
		return 0, fmt.Errorf("%w: %s holds %.40q, want a line such as \"coppice home %d\": this is no home of "+
			"coppice, or its file is damaged", exit.ErrConfig, path, data, homeVersion)
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
