package offline

import (
	"fmt"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/home"
)

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

func upgrade(dir string, check bool, known []Migration) (u Upgraded, err error) {
	at, err := home.ReadFormat(dir, home.Version(1+len(known)))
	if err != nil {
		return u, err
	}

	if !check {
		lock, err := home.Lock(dir)
		if err != nil {
			return u, err
		}
		defer lock.Close()
		if at, err = home.ReadFormat(dir, home.Version(1+len(known))); err != nil {
			// another upgrade may have been before
			return u, err
		}
	}

	u = Upgraded{From: int(at), To: 1 + len(known)}

	for _, m := range known[at-1:] {
		u.Steps = append(u.Steps, fmt.Sprintf("format %d to %d: %s", m.To-1, m.To, m.Does))
		if check {
			continue
		}

		if err := m.Run(dir); err != nil {
			return u, fmt.Errorf("upgrade of %s to format %d: %w; it has format %d still, and the upgrade can "+
				"be run again", dir, m.To, err, m.To-1)
		}

		if err := durable.OS.Replace(filepath.Join(dir, home.FormatFile), []byte(home.Version(m.To).Text(m.Needs)),
			0o644); err != nil {
			return u, err
		}
	}

	return u, nil
}
